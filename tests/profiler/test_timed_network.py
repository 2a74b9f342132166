"""The shipped networks and their steps."""

import gc
import json
import re
import weakref
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.profiler.configs import model_names, picture_size, pixel_step, read_config
from edgesplit.profiler.timed_network import GUIDANCE_SCALE, TimedNetwork
from edgesplit.profiler.workload import Workload

PARAMETERS = {
    "sd15": 859_520_964,
    "sd21": 865_910_724,
    "sdxl": 2_567_463_684,
    "bk-sdm-small": 482_346_884,
    "sd3-medium": 2_028_328_000,
    "sd3.5-medium": 2_243_171_520,
    "sd3.5-large": 8_056_627_520,
    "flux.1-dev": 11_901_408_320,
    "flux.1-schnell": 11_891_178_560,
    "pixart-sigma": 610_856_096,
}
"""Parameters of the published weights.

FLUX.1: the hub's count of the safetensors of black-forest-labs/FLUX.1-dev and FLUX.1-schnell, as unsloth's catalogue of
models repeats it. PixArt-Sigma: PixArt-alpha/PixArt-Sigma-XL-2-1024-MS at revision e102b359. Stable Diffusion 3.5: its
published are 2.5 and 8.1 billion, the table of positions among them; the exact numbers are those that fill the
published files, see `CHECKPOINT_BYTES`. Stable Diffusion 3 Medium: 2 billion, and a file of 4.34 GB.
"""
CHECKPOINT_BYTES = {"sd3.5-medium": 5_107_104_286, "sd3.5-large": 16_460_379_262}
"""Sizes of sd3.5_medium.safetensors and sd3.5_large.safetensors of stabilityai on the hub: two bytes for each weight of
the network, its table of positions and the autoencoder, and a header that names a thousand tensors."""
AUTOENCODER = 83_819_683
"""Parameters of Stable Diffusion 3's autoencoder."""
MOST_HEADER = 200_000
"""Bytes of such a header."""


def tiny(**changes):
    return Workload(**{"model": "tiny", "device": "cpu", "dtype": "fp32"} | changes)


def on_meta(name):
    config = read_config(name)
    kind = getattr(diffusers, config.get("_class_name", "UNet2DConditionModel"))
    with torch.device("meta"):
        return kind.from_config(config)


@pytest.mark.parametrize(("name", "count"), [*PARAMETERS.items()])
def test_a_shipped_configuration_is_the_published_network(name, count):
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == count


@pytest.mark.parametrize(("name", "billions"), [("sd3.5-medium", 2.5), ("sd3.5-large", 8.1)])
def test_weights_and_table_of_positions_fill_the_published_checkpoint(name, billions):
    numbers = sum(tensor.numel() for tensor in on_meta(name).state_dict().values())
    assert round(numbers / 1e9, 1) == billions
    assert 0 < CHECKPOINT_BYTES[name] - 2 * (numbers + AUTOENCODER) < MOST_HEADER


def test_the_older_medium_model_fills_its_published_file():
    """sd3_medium.safetensors of stabilityai has 4.34 GB, network, table of positions and autoencoder in fp16."""
    numbers = sum(tensor.numel() for tensor in on_meta("sd3-medium").state_dict().values())
    assert round(2 * (numbers + AUTOENCODER) / 1e9, 2) == 4.34


class Transfers(TorchDispatchMode):
    """Notes operations that carry tensors from one device to another, or a number to the host."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        before, after = (
            {t.device.type for t in tree_leaves(x) if isinstance(t, torch.Tensor)} for x in ((args, kwargs), result)
        )
        to_number = "meta" in before and "_local_scalar_dense" in str(func)
        if to_number or (before and not after <= before):
            self.seen.append(func)
        return result


@pytest.mark.parametrize("model", ["tiny", "sdxl", "sd3.5-medium", "flux.1-dev", "pixart-sigma"])
def test_a_step_moves_nothing_between_host_and_device(model):
    """A CUDA graph could not hold it, and the host would wait in every step."""
    timed = TimedNetwork(tiny(model=model, device="meta", dtype="fp16"))
    assert {parameter.dtype for parameter in timed.module.parameters()} == {torch.float16}
    step = timed.make_step(2)
    with Transfers() as transfers:
        step()
    assert transfers.seen == []


def test_a_timestep_on_the_host_is_seen_as_it_is_carried_over():
    """The check of the test above."""
    timed = TimedNetwork(tiny(device="meta", dtype="fp16"))
    conditions = {name: values[:2] for name, values in timed._conditions(2).items()}
    with Transfers() as transfers:
        timed.family.predict(timed.module, timed.latents(2), torch.tensor(3), conditions)
    assert len(transfers.seen) > 0


def test_captured_steps_share_the_memory_of_living_graphs_and_keep_their_inputs(monkeypatch):
    """A pool whose graphs are all gone cannot be opened again, and a replay reads the inputs where they lay."""
    opened = []

    class Graph:
        def pool(self):
            return id(self)

        def replay(self):
            opened.append("replayed")

    @contextmanager
    def capture(graph, pool):
        opened.append(pool)
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {"Stream": lambda: stream, "current_stream": lambda: stream, "stream": lambda _: nullcontext()}
    for name, fake in (fakes | {"CUDAGraph": Graph, "graph": capture}).items():
        monkeypatch.setattr(torch.cuda, name, fake)
    timed, inputs = TimedNetwork(tiny(cuda_graph=True)), []
    monkeypatch.setattr(timed, "_latents", lambda batch: _noted(TimedNetwork._latents(timed, batch), inputs))
    timed.make_step(1)()
    gc.collect()
    assert inputs.pop()() is None
    first = timed.make_step(1)
    second = timed.make_step(2)
    assert opened == [None, "replayed", None, first.graph.pool()]
    gc.collect()
    assert [reference() is not None for reference in inputs] == [True, True]
    second()
    assert opened[-1] == "replayed"


def _noted(latents, references):
    references.append(weakref.ref(latents))
    return latents


def test_every_shipped_configuration_is_listed():
    docs = (Path(__file__).parents[2] / "docs" / "hwprof.md").read_text(encoding="utf-8")
    for name, count in PARAMETERS.items():
        assert re.search(rf"\| `{re.escape(name)}` \| [\w. -]+ \| {count:,} \|", docs), name
    assert {*model_names()} == {*PARAMETERS, "tiny"}
    sides = {name: picture_size(tiny(model=name), read_config(name)) for name in model_names()}
    small, large = ("sd15", "sd21", "bk-sdm-small"), PARAMETERS.keys() - {"sd15", "sd21", "bk-sdm-small"}
    assert sides == dict.fromkeys(small, 512) | dict.fromkeys(large, 1024) | {"tiny": 64}


BASE = str(data.sample("toyworld/base"))


@pytest.mark.parametrize("model", [BASE, f"{BASE}/unet"])
def test_pixels_follow_from_the_model_s_own_vae(model):
    """The toy world's VAE makes 4 x 4 pixels of each element of the latents, those of Stable Diffusion 8 x 8."""
    workload, config = tiny(model=model), read_config(model)
    assert (picture_size(workload, config), pixel_step(model, config)) == (48, 16)
    assert TimedNetwork(workload).make_step(1)().shape == (1, 16, 12, 12)
    assert TimedNetwork(tiny(model=model, resolution="96x64")).make_step(1)().shape == (1, 16, 16, 24)


def test_sides_are_multiples_of_what_the_blocks_halve():
    steps = {"sd15": 64, "sdxl": 32, "tiny": 8, "sd3.5-medium": 16, "flux.1-dev": 16, "pixart-sigma": 16}
    assert {name: pixel_step(name, read_config(name)) for name in steps} == steps


@pytest.mark.parametrize("blocks", [None, [], "x", [8] * 50])
def test_a_vae_that_does_not_tell_its_pixels_is_refused(tmp_path, blocks):
    for part, config in (("unet", read_config("tiny")), ("vae", {"block_out_channels": blocks})):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"vae/config.json: block_out_channels: found .*, accepted: a list"):
        picture_size(tiny(model=str(tmp_path)), read_config("tiny"))


def test_sdxl_is_told_height_and_width_in_its_order():
    timed = TimedNetwork(tiny(model="sdxl", device="meta", dtype="fp16", resolution="1024x768"))
    assert timed.latents(1).shape == (1, 4, 96, 128)
    place = {"device": "cpu", "dtype": torch.float32}
    drawn = timed.family.drawn_conditions(timed.config, 1, (768, 1024), place)
    assert drawn["sizes"].tolist() == [[768, 1024, 0, 0, 768, 1024]]


def test_the_kernel_of_the_attention_is_named():
    timed = TimedNetwork(tiny())
    assert timed.attention() == "flash"
    with sdpa_kernel(SDPBackend.MATH):
        assert timed.attention() == "math"


def calls_of(timed):
    """The batch sizes that the network sees."""
    seen = []
    timed.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    return seen


@pytest.mark.parametrize(("guidance", "rows"), [(True, 6), (False, 3)])
def test_b_counts_images_and_guidance_doubles_what_the_network_sees(guidance, rows):
    timed = TimedNetwork(tiny(guidance=guidance))
    seen = calls_of(timed)
    assert timed.make_step(3)().shape == (3, 4, 8, 8)
    assert seen == [rows]


def test_a_step_is_prediction_guidance_and_scheduler():
    timed = TimedNetwork(tiny())
    torch.manual_seed(1)
    step = timed.make_step(2)
    torch.manual_seed(1)
    latents, conditions = timed._latents(2), timed._conditions(2)
    t = int(timed.scheduler.timesteps[25])
    with torch.inference_mode():
        both = timed.module(torch.cat([latents] * 2), t, conditions["text"]).sample
        guided = both[:2] + GUIDANCE_SCALE * (both[2:] - both[:2])
        expected = timed.scheduler.step(guided, t, latents).prev_sample
    torch.testing.assert_close(step(), expected)


def test_a_step_changes_no_input_so_that_it_can_be_repeated():
    step = TimedNetwork(tiny()).make_step(2)
    torch.testing.assert_close(step(), step())


@pytest.mark.parametrize("changes", [{"channels_last": True}, {"resolution": 128}, {"dtype": "bf16"}])
def test_variants_run(changes):
    side = changes.get("resolution", 64) // 8
    assert TimedNetwork(tiny(**changes)).make_step(1)().shape == (1, 4, side, side)


def test_a_unet_folder_runs_with_sdxls_conditions(tmp_path):
    config = read_config("tiny") | {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    }
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(config | {"_class_name": "UNet2DConditionModel"}))
    assert TimedNetwork(tiny(model=str(tmp_path))).make_step(2)().shape == (2, 4, 8, 8)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read: No such file"),
        ("{", "not valid JSON"),
        ("[]", "found a list, accepted: an object"),
        ("{}", "found another network, accepted: one that is told a text, .* of Stable Diffusion 1.x or 2.x, "),
        ('{"cross_attention_dim": 8, "class_embed_type": "timestep"}', "found another network, accepted"),
        ('{"cross_attention_dim": 8, "in_channels": 9}', "found another network, accepted"),
        ('{"_class_name": "UNet3DConditionModel"}', "found 'UNet3DConditionModel', accepted"),
        ('{"_class_name": ["x"]}', "found .*, accepted: one that is told a text"),
    ],
)
def test_a_folder_without_a_network_is_refused(content, says, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=says):
        read_config(str(tmp_path))


def test_an_unknown_model_suggests_the_nearest():
    with pytest.raises(InputError, match=r"--model: found 'sd-15', accepted: .*did you mean 'sd15'\?"):
        read_config("sd-15")


@pytest.mark.parametrize(
    "change", [{"cross_attention_dim": "wide"}, {"block_out_channels": [7, 13]}, {"down_block_types": ["NoBlock"] * 2}]
)
def test_a_configuration_that_makes_no_network_is_one_line(tmp_path, change):
    (tmp_path / "config.json").write_text(json.dumps(read_config("tiny") | change))
    with pytest.raises(InputError, match=r"config.json: no network can be made of it \(.*\); name another") as caught:
        TimedNetwork(tiny(model=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"layers_per_block": 10**6}, {"layers_per_block": [10**6]}, {"layers_per_block": 10**30},
        {"transformer_layers_per_block": 10**5}, {"block_out_channels": [8] * 1000}, {"norm_num_groups": 10**400},
        {"sample_size": 10**30}, {"sample_size": "x"}, {"sample_size": 1.5}, {"sample_size": {"a": 1}},
        {"sample_size": 0},
    ],
)  # fmt: skip
def test_sizes_that_no_network_has_are_refused_before_it_is_made(tmp_path, change):
    config = json.loads(model_names()["tiny"].read_text(encoding="utf-8")) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"{next(iter(change))}: found .*, accepted: "):
        read_config(str(tmp_path))
