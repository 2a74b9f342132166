"""Steps as numbers: one step of all images is the scheduler's own step of each, whatever the schedule."""

import pytest
import torch
from models import as_model, explicit, make_pipeline

from edgesplit.diffusion.inference.in_flight import Image, InFlight, LinearGroup, Trajectory
from edgesplit.diffusion.inference.linear_steps import ready_for, schedule_of
from edgesplit.diffusion.inference.sampling import DENOISING, FLOW, NOISY, Sampling
from edgesplit.diffusion.inference.step import predict, scaled_input

N = 20
SPACINGS = ("leading", "linspace", "trailing")
STEADY = [
    (scheduler, kind, {"timestep_spacing": spacing})
    for scheduler in DENOISING
    if scheduler not in NOISY
    for kind in ("epsilon", "v_prediction", "sample")
    for spacing in SPACINGS
    if Sampling(scheduler=scheduler).can_run(kind)
]
FLOWING = [
    (scheduler, "epsilon", change)
    for scheduler in FLOW
    for change in ({}, {"shift": 3.0}, {"use_dynamic_shifting": True}, {"last_sigma": "1/N"})
]
OTHERS = [
    ("ddim", "epsilon", {"set_alpha_to_one": True}),
    ("ddim", "v_prediction", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    ("euler", "epsilon", {"use_karras_sigmas": True}),
    ("euler", "epsilon", {"final_sigmas_type": "sigma_min"}),
]


def sampled(scheduler, kind, change, steps=N):
    """Settings and a configuration."""
    return Sampling(total_steps=steps, scheduler=scheduler), {"prediction_type": kind} | change


@pytest.mark.parametrize(("scheduler", "kind", "change"), STEADY + FLOWING + OTHERS)
@pytest.mark.parametrize("steps", [1, N, 200])
def test_one_step_of_all_is_the_schedulers_own_step_of_each(scheduler, kind, change, steps):
    """Every index of the schedule at once; and what the network gets of them."""
    settings, config = sampled(scheduler, kind, change, steps)
    schedule = schedule_of(settings, config)
    assert all(schedule.linear)
    rng = torch.Generator().manual_seed(0)
    latents, predictions = (torch.randn(steps, 4, 3, 3, generator=rng) for _ in range(2))
    group = LinearGroup(
        [Trajectory("", 0, 1.0, x, torch.zeros(()), steps - index) for index, x in enumerate(latents)],
        schedule.numbers.T[..., None, None, None],
        schedule.scheduler.timesteps,
    )
    scaled, stepped = group.scaled(), group.stepped(predictions)
    for index, timestep in enumerate(schedule.scheduler.timesteps):
        own = ready_for(schedule.scheduler, index)
        network_gets = scaled_input(own, latents[index], timestep)
        step = own.step(predictions[index], timestep, latents[index], return_dict=False)[0]
        torch.testing.assert_close(scaled[index], network_gets, atol=0, rtol=1e-6)
        torch.testing.assert_close(stepped[index], step, atol=1e-5, rtol=0)  # terms up to 60, in fp32


@pytest.mark.parametrize(
    ("scheduler", "change"),
    [
        ("ddim", {"clip_sample": True, "clip_sample_range": 1e6}),
        ("ddim", {"thresholding": True}),
        ("ddpm", {}),
        ("euler-ancestral", {}),
    ],
)
def test_what_clips_or_adds_noise_has_no_numbers(scheduler, change):
    assert not any(schedule_of(*sampled(scheduler, "epsilon", change)).linear)


def test_a_step_of_pure_noise_has_no_numbers_and_the_others_have():
    """Where the first step has no signal, the noise says nothing of the sample: the scheduler makes NaN of it."""
    change = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    linear = schedule_of(*sampled("ddim", "epsilon", change)).linear
    assert linear == (False, *[True] * (N - 1))


def test_images_at_steps_with_and_without_numbers_share_a_batch(monkeypatch):
    """Every third step is the scheduler's own: each image is as in a batch whose steps are all equal and linear."""
    model = as_model(make_pipeline(seed=1, prediction_type="v_prediction"), "dog", "edge")
    settings = Sampling(total_steps=N, guidance_scale=3.0)
    schedule = schedule_of(settings, model.scheduler_config)
    mixed = type(schedule)(schedule.scheduler, schedule.numbers, tuple(index % 3 > 0 for index in range(N)))
    images = [Image(name=seed, prompt="a photo of dog", seed=seed, to_step=seed) for seed in range(6)]

    def made(all_at_once):
        engine, done = InFlight(model, settings), {}
        waiting = list(images)
        while waiting or len(engine):
            for _ in range(len(waiting) if all_at_once else 1):
                if waiting:
                    engine.add(waiting.pop(0))
            done |= engine.tick()
        return done

    alone = made(all_at_once=True)
    monkeypatch.setattr("edgesplit.diffusion.inference.in_flight.schedule_of", lambda *_: mixed)
    apart = made(all_at_once=False)
    for image in images:
        torch.testing.assert_close(apart[image.name], alone[image.name], atol=1e-4, rtol=0)


def test_equal_settings_share_their_schedule_and_others_do_not():
    model = as_model(make_pipeline(seed=1))
    config = explicit(model.scheduler_config)
    assert schedule_of(Sampling(total_steps=N), config) is schedule_of(Sampling(total_steps=N), dict(config))
    assert schedule_of(Sampling(total_steps=N + 1), config) is not schedule_of(Sampling(total_steps=N), config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_guidances_that_differ_are_multiplied_as_each_alone(dtype):
    """In half precision 7.3 has no exact number: a batch must not see a rounded one."""

    class Passing:
        @staticmethod
        def predict(_network, x, _t, conditions):
            return x * conditions

    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4, 4, 8, 8, generator=rng).to(dtype)
    conditions = torch.randn(8, 1, 1, 1, generator=rng).to(dtype)
    scales, t = [7.3, 1.7, 3.1, 12.9], torch.zeros(4)
    together = predict(Passing, None, x, t, conditions, torch.tensor(scales)[:, None, None, None])
    assert together.dtype == dtype
    for i, scale in enumerate(scales):
        alone = predict(Passing, None, x[[i]], t[[i]], conditions[[i, i + 4]], scale)
        assert torch.equal(together[[i]], alone)
