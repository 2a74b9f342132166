"""Steps of transformers: Stable Diffusion 3.5's, FLUX.1's and PixArt-Sigma's, tiny ones with random weights."""

import copy
import json

import pytest
import torch
from commands import refused, run_here
from tiny_families import LATENT_SIDE, tiny_pipeline

from edgesplit.common.errors import InputError
from edgesplit.profiler.cli import main
from edgesplit.profiler.configs import model_names, read_config
from edgesplit.profiler.parts import part_steps
from edgesplit.profiler.timed_network import GUIDANCE_SCALE, TOTAL_STEPS, TimedNetwork
from edgesplit.profiler.workload import Workload

FAMILIES = ("sd3", "flux-dev", "flux-schnell", "pixart")
FLUX = ("flux-dev", "flux-schnell")
PIXELS = 2 * LATENT_SIDE
"""Side of the pictures of the tiny models, whose autoencoders make 2 x 2 pixels of each element of the latents."""


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture
def folder(name, tmp_path):
    """The networks of a tiny model."""
    for part, network in tiny_pipeline(name).components.items():
        if isinstance(network, torch.nn.Module):
            network.save_pretrained(tmp_path / part)
    return tmp_path


def timed_network(folder, **changes):
    settings = {"model": str(folder), "device": "cpu", "dtype": "fp32", "resolution": PIXELS}
    return TimedNetwork(Workload(**settings | changes))


def bench(folder, *options):
    batches = ("--batches", "1,2", "--max-seconds", "0.5", "--resolution", PIXELS)
    return run_here(main, "bench", "--device", "cpu", "--model", folder, *batches, *options)


@pytest.mark.parametrize("guidance", [True, False])
def test_a_step_is_the_family_s_prediction_and_its_scheduler_s_step(name, folder, guidance):
    guidance = guidance and name not in FLUX
    network = timed_network(folder, guidance=guidance)
    torch.manual_seed(1)
    step = network.make_step(2)
    torch.manual_seed(1)
    latents, conditions = network.latents(2), network._conditions(2)
    t = network.scheduler.timesteps[TOTAL_STEPS // 2]
    with torch.inference_mode():
        rows = [latents, latents] if guidance else [latents]
        told = t.expand(2 * len(rows))
        prediction = network.family.predict(network.network, torch.cat(rows), told, conditions)
        if guidance:
            prediction = prediction[:2] + GUIDANCE_SCALE * (prediction[2:] - prediction[:2])
        expected = copy.copy(network.scheduler).step(prediction, t, latents).prev_sample
    for _ in range(3):  # the scheduler's own count goes on in none of them
        torch.testing.assert_close(step(), expected)


def test_conditions_are_drawn_in_the_shapes_of_prompts(name, folder):
    """Rows and widths; how many tokens a prompt has is the tokenizer's own, and the tiny CLIP's are fewer."""
    from edgesplit.diffusion.inference.families.known import family_of

    pipeline, network = tiny_pipeline(name), timed_network(folder, guidance=False)
    family = family_of("it", type(pipeline).__name__)
    parts = {part: getattr(pipeline, part) for part in family.PARTS}
    model = family(name="it", scheduler_config={}, subject="dog", **parts)
    encoded = model.with_guidance(model.encode(["a dog", "a cat"]), family.USUAL_GUIDANCE)
    drawn = network._conditions(2)
    assert drawn.keys() == encoded.keys()
    for condition, values in encoded.items():
        assert drawn[condition].dtype == values.dtype
        shapes = drawn[condition].shape, values.shape
        assert len(shapes[0]) == len(shapes[1])
        assert [(shape[0], shape[-1]) for shape in shapes] == [(2, values.shape[-1])] * 2


def test_bench_measures_a_transformer_and_doubles_the_batch_where_its_family_does(name, folder, tmp_path):
    result = bench(folder, "-o", tmp_path / "p.json", "--json")
    profile = json.loads(result.stdout)
    assert (profile["resolution"], profile["guidance"]) == (PIXELS, name not in FLUX)
    assert [sample["batch"] for sample in profile["samples"]] == [1, 2]
    assert min(profile["decode_s"], profile["encode_s"]) > 0


def test_a_t5_is_timed_with_the_tokens_of_its_family(name, folder):
    encoded = part_steps(timed_network(folder))["encode_s"]()()
    assert encoded[-1][0].shape[1] == {"sd3": 256, "pixart": 300}.get(name, 512)
    assert len(encoded) == {"sd3": 3, "pixart": 1}.get(name, 2)


def test_every_shipped_transformer_takes_a_step():
    """Without memory and numbers, on torch's meta device: shapes alone."""
    for shipped in model_names().keys() - {"sd15", "sd21", "bk-sdm-small", "sdxl", "tiny"}:
        network = TimedNetwork(Workload(model=shipped, device="meta", dtype="bf16", guidance="flux" not in shipped))
        channels = 4 if shipped == "pixart-sigma" else 16
        assert network.make_step(2)().shape == (2, channels, 128, 128)


def changed(folder, **changes):
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("flux-dev", {"in_channels": 384, "out_channels": 64}),  # for inpainting: a picture and a mask
        ("flux-dev", {"axes_dims_rope": [3, 5, 8]}),
        ("sd3", {"in_channels": 33}),
        ("pixart", {"use_additional_conditions": True}),
        ("pixart", {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero"}),  # told a class
        ("pixart", {"use_additional_conditions": None, "sample_size": 128}),  # as the class itself takes it
    ],
)
def test_a_transformer_that_is_told_more_than_a_text_is_refused(folder, changes):
    changed(folder, **changes)
    with pytest.raises(InputError, match=r"transformer/config.json: found '\w+', accepted: one that is told a text"):
        read_config(str(folder))


@pytest.mark.parametrize("name", ["pixart"])
def test_a_transformer_of_old_files_is_known_by_its_norm(folder):
    """Diffusers' scripts/convert_pixart_sigma_to_diffusers.py wrote the class Transformer2DModel, with more options."""
    changed(folder, _class_name="Transformer2DModel", num_vector_embeds=None, double_self_attention=False)
    side = LATENT_SIDE
    assert timed_network(folder).make_step(1)().shape == (1, 4, side, side)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sd3", {"patch_size": 0}), ("sd3", {"patch_size": [2, 2]}), ("sd3", {"pos_embed_max_size": "x"}),
        ("sd3", {"sample_size": 34}), ("sd3", {"num_layers": 10**6}), ("flux-dev", {"num_single_layers": 10**6}),
        ("pixart", {"norm_eps": None}),
    ],
)  # fmt: skip
def test_sizes_that_no_transformer_has_are_refused_before_it_is_made(folder, changes):
    changed(folder, **changes)
    with pytest.raises(InputError, match=f"{next(iter(changes))}: found .*, accepted: "):
        read_config(str(folder))


@pytest.mark.parametrize("name", ["sd3"])
def test_pictures_for_which_the_table_of_positions_is_too_small_are_refused(folder, tmp_path):
    """16 patches of 2 x 2 latents, each of them 2 x 2 pixels."""
    line = refused(bench(folder, "-o", tmp_path / "p.json", "--resolution", "68"))
    assert "--resolution: found '68', accepted: multiples of 4 up to 64" in line
