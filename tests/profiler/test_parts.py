"""What is timed beside the steps: decoding a picture and encoding a prompt."""

import json
import re
import shutil

import pytest
import torch

from edgesplit import data
from edgesplit.profiler import bench
from edgesplit.profiler.parts import CALLS, part_steps, time_part
from edgesplit.profiler.timed_network import TimedNetwork
from edgesplit.profiler.timing import CpuTimer
from edgesplit.profiler.workload import Workload

BASE = data.sample("toyworld/base")


def network_of(model, **changes):
    return TimedNetwork(Workload(model=str(model), device="cpu", **({"dtype": "fp32"} | changes)))


@pytest.fixture
def folder(tmp_path):
    """A copy of the base model's configurations."""
    for part in ("unet", "vae", "text_encoder"):
        (tmp_path / part).mkdir()
        shutil.copy(BASE / part / "config.json", tmp_path / part)
    return tmp_path


def change(folder, part, **changes):
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_picture_of_the_workload_s_size_is_decoded_and_a_prompt_of_full_length_is_encoded():
    makers = part_steps(network_of(BASE, resolution="96x64"))
    assert {*makers} == {"decode_s", "encode_s"}
    assert makers["decode_s"]()().shape == (1, 3, 64, 96)
    (encoded,) = makers["encode_s"]()()
    assert encoded[0].shape == (1, 24, 96)


def test_a_unet_alone_has_no_parts():
    assert part_steps(network_of("tiny")) == {}


def test_sdxl_has_a_second_text_encoder(folder):
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
    change(folder, "text_encoder_2", architectures=["CLIPTextModelWithProjection"])
    encoded = part_steps(network_of(folder))["encode_s"]()()
    assert len(encoded) == 2
    assert encoded[1].text_embeds.shape == (1, 96)


@pytest.mark.parametrize(("upcast", "dtype"), [(True, torch.float32), (False, torch.float16)])
def test_a_vae_that_overflows_in_fp16_decodes_in_fp32_as_pipelines_do(folder, upcast, dtype):
    change(folder, "vae", force_upcast=upcast)
    assert part_steps(network_of(folder, dtype="fp16"))["decode_s"]()().dtype is dtype


def test_calls_are_timed_after_a_warm_up():
    calls = []
    seconds = time_part(lambda: lambda: calls.append(1), CpuTimer())
    assert (len(seconds), len(calls) > CALLS) == (CALLS, True)


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("text_encoder", {"architectures": ["BertModel"]}, "encode_s was not measured: .*found .*BertModel"),
        ("text_encoder", {"num_attention_heads": 7}, "encode_s was not measured: .*no network can be made of it"),
        ("vae", {"down_block_types": ["NoBlock"] * 3}, "decode_s was not measured: .*no network can be made of it"),
        ("vae", {"latent_channels": 5}, "decode_s was not measured: cpu: cannot run"),
    ],
)
def test_what_cannot_be_timed_is_said_and_the_rest_is_timed(folder, part, changes, says):
    change(folder, part, **changes)
    said = []
    seconds = bench.time_parts(network_of(folder), CpuTimer(), said.append)
    assert {*seconds} == {"decode_s", "encode_s"} - {says[:8]}
    (line,) = said
    assert re.match(says, line)
