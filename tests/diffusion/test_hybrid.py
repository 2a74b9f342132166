"""Hybrid inference: the split changes nothing, the batch changes nothing, and steps are counted."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from models import as_model, explicit, make_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.batch import denoise, generate
from edgesplit.diffusion.inference.handoff import Handoff
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, edge_sweep, finish_local, hybrid
from edgesplit.diffusion.inference.models import paired
from edgesplit.diffusion.inference.noise import initial_noise
from edgesplit.diffusion.inference.sampling import LARGEST_SEED, SCHEDULERS, Sampling

TEMPLATE = "a photo of {subject} on the beach"
N = 6


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(seed=1)


@pytest.fixture(scope="module")
def edge(pipeline):
    return as_model(pipeline, "dog", "edge")


@pytest.fixture(scope="module")
def personal():
    return as_model(make_pipeline(seed=2), "sks dog", "personal")


def sampling(**changes):
    return Sampling(**({"total_steps": N, "guidance_scale": 3.0} | changes))


def run(edge, personal, requests, settings):
    return torch.cat([finish_local(personal, handoff, settings) for handoff in edge_prefix(edge, requests, settings)])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_with_one_model_on_both_sides_the_split_changes_nothing(edge, scheduler, guidance):
    settings = sampling(scheduler=scheduler, guidance_scale=guidance)
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=7) for n in (0, 1, N // 2, N - 1, N)]
    split = edge.decode(run(edge, edge, requests, settings))
    unsplit = generate(edge, [edge.prompt(TEMPLATE)], [7], settings)
    assert float((split - unsplit).abs().max()) < 1e-5
    assert float(unsplit.std()) > 0.01  # a picture, not a constant


@pytest.mark.parametrize(
    ("scheduler", "theirs"), [("ddim", diffusers.DDIMScheduler), ("euler", diffusers.EulerDiscreteScheduler)]
)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_the_picture_is_that_of_diffusers_own_pipeline(scheduler, theirs, guidance, prediction_type):
    pipeline = make_pipeline(seed=3, prediction_type=prediction_type)
    model, settings = as_model(pipeline), sampling(scheduler=scheduler, guidance_scale=guidance)
    pipeline.scheduler = theirs.from_config(pipeline.scheduler.config)
    expected = pipeline(
        "a photo of dog on the beach",
        height=32,
        width=32,
        num_inference_steps=N,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    ).images
    request = Request(prompt_template=TEMPLATE, local_steps=N // 2, seed=5)
    (found,) = hybrid(model, [model], [request], settings)
    assert float((found - expected[0]).abs().max()) < 1e-5


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_batch_and_the_order_of_users_do_not_matter(edge, personal, scheduler):
    """Six users with all kinds of splits, alone and together, in two orders."""
    settings = sampling(scheduler=scheduler)
    rng = np.random.default_rng(0)
    words = ["on the beach", "in snow", "at night", "wearing a hat"]
    requests = [
        Request(
            prompt_template=f"a photo of {{subject}} {words[i % 4]}", local_steps=int(rng.integers(0, N + 1)), seed=i
        )
        for i in range(6)
    ]
    alone = [edge_prefix(edge, [request], settings)[0].latents for request in requests]
    for order in (range(6), rng.permutation(6)):
        together = edge_prefix(edge, [requests[i] for i in order], settings)
        for i, handoff in zip(order, together, strict=True):
            torch.testing.assert_close(handoff.latents, alone[i], atol=1e-4, rtol=0)
            assert handoff.step == requests[i].local_steps


def test_the_edge_runs_exactly_the_offloaded_steps(edge, personal):
    splits = [0, 2, 2, 4, N, N - 1]
    batches, local = [], []
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=i) for i, n in enumerate(splits)]
    handoffs = edge_prefix(edge, requests, sampling(), batches.append)
    assert sum(batches) == sum(N - n for n in splits)
    assert batches == sorted(batches, reverse=True)  # it shrinks
    finish_local(personal, handoffs, sampling(), local.append)
    assert sum(local) == sum(splits)
    assert local == sorted(local, reverse=True)  # so does this one
    everybody_local = []
    edge_prefix(edge, [Request(prompt_template=TEMPLATE, local_steps=N)], sampling(), everybody_local.append)
    assert everybody_local == []


def test_equal_prompts_and_seeds_are_stepped_once_at_the_edge(edge):
    batches = []
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=3) for n in (0, 2, 2, N)]
    handoffs = edge_prefix(edge, requests, sampling(), batches.append)
    assert batches == [1] * N
    for request, handoff in zip(requests, handoffs, strict=True):
        (alone,) = edge_prefix(edge, [request], sampling())
        torch.testing.assert_close(handoff.latents, alone.latents, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_one_pass_serves_a_whole_sweep_over_splits(edge, personal, scheduler):
    settings, splits = sampling(scheduler=scheduler), [0, 1, 3, 5, N]
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=3) for n in splits]
    handoffs = edge_prefix(edge, requests, settings)
    steps = []
    swept = edge_sweep(edge, TEMPLATE, 3, splits, settings, steps.append)
    assert steps == [1] * N  # one trajectory, to the lowest split
    for handoff, other in zip(swept, handoffs, strict=True):
        assert replace(handoff, latents=other.latents) == other
        torch.testing.assert_close(handoff.latents, other.latents, atol=1e-5, rtol=0)
    together = finish_local(personal, handoffs, settings)
    for found, handoff in zip(together, handoffs, strict=True):
        torch.testing.assert_close(found, finish_local(personal, handoff, settings)[0], atol=1e-4, rtol=0)


def test_different_models_meet_at_the_split(edge, personal):
    """n = N is the personal model alone, n = 0 the edge's alone, and between them both have a say."""
    settings = sampling()
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=2) for n in (0, 3, N)]
    ours = run(edge, personal, requests, settings)
    noise = initial_noise(edge, [2], settings)
    at_edge = denoise(edge, noise, ["a photo of dog on the beach"], N, 0, settings)
    at_device = denoise(personal, noise, ["a photo of sks dog on the beach"], N, 0, settings)
    torch.testing.assert_close(ours[0], at_edge[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours[2], at_device[0], atol=1e-5, rtol=0)
    assert min(float((ours[1] - other).abs().max()) for other in (at_edge[0], at_device[0])) > 1e-3


def test_a_gap_between_users_does_not_confuse_a_counting_scheduler(edge):
    """Euler counts its own steps; nobody needs steps 4 to 3 here."""
    settings = sampling(scheduler="euler")
    noise = initial_noise(edge, [0, 1], settings)
    prompts = ["a photo of dog", "a photo of dog in snow"]
    both = denoise(edge, noise, prompts, [N, 2], [4, 0], settings)
    torch.testing.assert_close(both[0], denoise(edge, noise[:1], prompts[:1], N, 4, settings)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(both[1], denoise(edge, noise[1:], prompts[1:], 2, 0, settings)[0], atol=1e-5, rtol=0)


def test_several_users_get_the_pictures_that_each_would_get_alone(edge, personal):
    """One edge pass for all of them: exactly the offloaded steps, in a batch that shrinks."""
    settings, models, splits, batches = sampling(), [personal, edge, personal], [2, 4, N], []
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=i) for i, n in enumerate(splits)]
    together = hybrid(edge, models, requests, settings, batches.append)
    assert batches == [2] * 2 + [1] * 2
    for model, request, found in zip(models, requests, together, strict=True):
        (alone,) = hybrid(edge, [model], [request], settings)
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=0)


def test_settings_may_be_left_out(edge):
    """The defaults are those of `Sampling`; here a guidance and a number of steps that nobody has to name."""
    total = Sampling().total_steps
    noise = initial_noise(edge, [0])
    torch.testing.assert_close(
        denoise(edge, noise, ["a photo of dog"], total, total - 2),
        denoise(edge, noise, ["a photo of dog"], total, total - 2, Sampling()),
    )
    (handoff,) = edge_prefix(edge, [Request(prompt_template=TEMPLATE, local_steps=total - 1)])
    assert handoff.total_steps == total
    assert finish_local(edge, replace(handoff, step=1)).shape == (1, *edge.latent_shape)


def test_nobody_asks_for_nothing(edge):
    assert edge_prefix(edge, [], sampling()) == []
    assert finish_local(edge, [], sampling()).shape == (0, *edge.latent_shape)


@pytest.mark.parametrize("scheduler", ["ddpm", "euler-ancestral"])
def test_a_scheduler_that_adds_noise_asks_for_seeds(edge, scheduler):
    settings = sampling(scheduler=scheduler)
    noise = initial_noise(edge, [0, 1], settings)
    with pytest.raises(InputError, match=f"seeds: found 0 for 2 samples, accepted: one of each, as {scheduler} adds"):
        denoise(edge, noise, ["a photo of dog"] * 2, N, 0, settings)


@pytest.mark.parametrize("seed", [2**40, LARGEST_SEED])
def test_large_seeds_work_with_every_scheduler(edge, seed):
    settings = sampling(scheduler="ddpm", total_steps=2)
    (handoff,) = edge_prefix(edge, [Request(prompt_template=TEMPLATE, local_steps=1, seed=seed)], settings)
    assert finish_local(edge, Handoff.from_bytes(handoff.to_bytes("fp32")), settings).isfinite().all()


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(InputError, match=f"seed: found {seed}, accepted: 0 to"):
        Request(prompt_template=TEMPLATE, local_steps=0, seed=seed)


def test_as_many_steps_as_the_schedule_has_places_for(edge):
    """Stable Diffusion's steps are one off, so that of a thousand only 999 can be run."""
    assert len(sampling(total_steps=999).make_scheduler(edge.scheduler_config).timesteps) == 999
    with pytest.raises(InputError, match=r"total_steps: found 1000, accepted: fewer, .* its steps_offset is 1"):
        sampling(total_steps=1000).make_scheduler(edge.scheduler_config)
    whole = explicit(edge.scheduler_config) | {"steps_offset": 0}
    assert len(sampling(total_steps=1000).make_scheduler(whole).timesteps) == 1000
    with pytest.raises(InputError, match="trained with 500 timesteps"):
        sampling(total_steps=501).make_scheduler(whole | {"num_train_timesteps": 500})


def test_inputs_are_not_changed(edge):
    noise = initial_noise(edge, [0], sampling())
    before = noise.clone()
    denoise(edge, noise, ["a photo of dog"], N, 0, sampling())
    assert torch.equal(noise, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "dpmsolver++"}, "multistep scheduler's history is not handed off: ddim"),
        ({"scheduler": "pndm"}, "accepted: one whose step needs the current sample alone"),
        ({"total_steps": 0}, "total_steps: found 0"),
        ({"guidance_scale": 0.5}, "guidance_scale: found 0.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        sampling(**changes)


@pytest.mark.parametrize("split", [-1, N + 1])
def test_a_split_out_of_range_is_refused(edge, split):
    with pytest.raises(InputError, match=f"accepted: from N = {N} down to 0"):
        edge_prefix(edge, [Request(prompt_template=TEMPLATE, local_steps=split)], sampling())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a photo of {subjct}", "accepted in braces: {subject} alone"),
        ("a photo of dog", "found no {subject}, accepted: such as"),
        ("a photo of {subject} " + "on the beach " * 8, "accepted: 22"),
        ("a photo of {subject} № 5", "does not know"),
    ],
)
def test_a_prompt_that_would_be_cut_or_misread_is_refused(edge, template, message):
    with pytest.raises(InputError, match=message):
        edge_prefix(edge, [Request(prompt_template=template, local_steps=0)], sampling())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"channels": 8}, "latent shape is"),
        ({"prediction_type": "epsilon"}, "prediction_type is v_prediction and epsilon"),
    ],
)
def test_a_mismatched_pair_is_refused_before_any_step(edge, other, message):
    stranger = as_model(make_pipeline(seed=4, **other), name="stranger")
    with pytest.raises(InputError, match=f"edge and stranger: {message}"):
        paired(edge, [stranger], sampling())
