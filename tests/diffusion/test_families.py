"""Every family, on a tiny model of its real classes: what it makes equals what the pipeline of diffusers makes."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from tiny_families import LATENT_SIDE, MAKERS, tiny_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.handoff import Handoff
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, finish_local, hybrid
from edgesplit.diffusion.inference.models import load_model, paired
from edgesplit.diffusion.inference.sampling import Sampling

N = 6
CLASSES = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "flow-euler": "FlowMatchEulerDiscreteScheduler",
}
TEMPLATE = "a photo of {subject} in snow"
PROMPT = "a photo of dog in snow"
OTHERS = ("a photo of {subject} on the beach", "a photo of {subject} at night")
NAMES = list(MAKERS)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Call it with a name: the pipeline, and the model that is loaded from its folder."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "model"
            pipeline = tiny_pipeline(name)
            pipeline.save_pretrained(folder)
            model = load_model(folder, subject="dog")
            made[name] = pipeline, replace(model, latent_size=(LATENT_SIDE, LATENT_SIDE))
        return made[name]

    return get


def sampling_of(model, guidance=3.0, scheduler=None):
    return Sampling(total_steps=N, guidance_scale=guidance, scheduler=scheduler or model.SCHEDULERS[0])


def of_pipeline(pipeline, sampling, seed, output_type="latent", prompt=PROMPT):
    """What diffusers makes: latents as they are before the autoencoder, or the picture."""
    kind = getattr(diffusers, CLASSES[sampling.scheduler])
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    side = LATENT_SIDE * pipeline.vae_scale_factor
    options = {"use_resolution_binning": False} if "PixArt" in type(pipeline).__name__ else {}
    return pipeline(
        prompt, num_inference_steps=N, guidance_scale=sampling.guidance_scale, height=side, width=side,
        generator=torch.Generator().manual_seed(seed), output_type=output_type, return_dict=False, **options,
    )[0]  # fmt: skip


def unpacked(latents, model):
    """Latents of a pipeline that packs them, in the shape of ours."""
    if latents.ndim == 4:
        return latents
    side = LATENT_SIDE * model.vae_factor
    return diffusers.FluxPipeline._unpack_latents(latents, side, side, model.vae_factor)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", NAMES)
def test_alone_and_split_it_makes_what_the_pipeline_makes(tiny, name, guidance):
    pipeline, model = tiny(name)
    sampling = sampling_of(model, guidance)
    expected = unpacked(of_pipeline(pipeline, sampling, seed=5), model)[0]
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=5) for n in (0, 1, N // 2, N - 1, N)]
    for request in requests:
        (handoff,) = edge_prefix(model, [request], sampling)
        handoff = Handoff.from_bytes(handoff.to_bytes("fp32"))
        torch.testing.assert_close(finish_local(model, handoff, sampling)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_that_may_run_it_makes_what_the_pipeline_makes(tiny, name):
    pipeline, model = tiny(name)
    for scheduler in {"ddim", "euler", "flow-euler"} & set(model.SCHEDULERS):
        sampling = sampling_of(model, scheduler=scheduler)
        expected = unpacked(of_pipeline(pipeline, sampling, seed=1), model)[0]
        (handoff,) = edge_prefix(model, [Request(prompt_template=TEMPLATE, local_steps=2, seed=1)], sampling)
        torch.testing.assert_close(finish_local(model, handoff, sampling)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_in_a_batch_of_eight_it_is_as_alone(tiny, name):
    _, model = tiny(name)
    sampling, rng = sampling_of(model), np.random.default_rng(8)
    requests = [
        Request(prompt_template=(TEMPLATE, *OTHERS)[i % 3], local_steps=int(rng.integers(0, N + 1)), seed=i)
        for i in range(8)
    ]
    together = edge_prefix(model, requests, sampling)
    for request, handoff in zip(requests, together, strict=True):
        (alone,) = edge_prefix(model, [request], sampling)
        torch.testing.assert_close(handoff.latents, alone.latents, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_its_picture_is_that_of_the_pipeline(tiny, name):
    pipeline, model = tiny(name)
    sampling = sampling_of(model)
    (picture,) = hybrid(model, [model], [Request(prompt_template=TEMPLATE, local_steps=3, seed=2)], sampling)
    expected = of_pipeline(pipeline, sampling, seed=2, output_type="pt")[0]
    torch.testing.assert_close(picture, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("one", "other"), [("sd", "sdxl"), ("sd3", "flux-dev"), ("pixart", "sd")])
def test_families_cannot_hand_off_to_each_other(tiny, one, other):
    edge, personal = tiny(one)[1], tiny(other)[1]
    with pytest.raises(InputError, match=f"family is {edge.KIND} and {personal.KIND}; a hand-off needs the same"):
        paired(edge, [personal], sampling_of(edge))


def test_a_scheduler_of_another_kind_is_refused_by_name(tiny):
    _, model = tiny("sd3")
    with pytest.raises(InputError, match=r"scheduler: found ddim, accepted for .* \(Stable Diffusion 3 or 3.5\): flow"):
        paired(model, [model], Sampling(total_steps=N))


def test_models_that_shift_differently_cannot_hand_off(tiny):
    _, model = tiny("sd3")
    other = replace(model, name="other", scheduler_config=dict(model.scheduler_config) | {"shift": 1.0})
    with pytest.raises(InputError, match=r"shift is 3.0 and 1.0; a hand-off needs the same"):
        paired(model, [other], sampling_of(model))
