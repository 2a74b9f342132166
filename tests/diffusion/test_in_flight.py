"""The batch engine of a running edge: no image can tell who else is in flight."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import as_model, make_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.batch import denoise
from edgesplit.diffusion.inference.in_flight import Image, InFlight, NotFiniteError
from edgesplit.diffusion.inference.noise import initial_noise
from edgesplit.diffusion.inference.sampling import SCHEDULERS, Sampling

N = 8
PROMPTS = ("a photo of dog on the beach", "a photo of dog in snow", "a photo of dog at night")


@pytest.fixture(scope="module")
def model():
    return as_model(make_pipeline(seed=1), "dog", "edge")


def sampling(**changes):
    return Sampling(**({"total_steps": N, "guidance_scale": 3.0} | changes))


def alone(model, image, settings):
    """x_n of an image by itself, from the batch that `hybrid` runs."""
    if image.guidance_scale is not None:
        settings = sampling(scheduler=settings.scheduler, guidance_scale=image.guidance_scale)
    noise = initial_noise(model, [image.seed], settings)
    return denoise(model, noise, [image.prompt], N, image.to_step, settings, [image.seed])[0]


def drawn(rng, count, **more):
    return [
        Image(
            name=number,
            prompt=str(rng.choice(PROMPTS)),
            seed=int(rng.integers(0, 5)) + 10 * number,
            to_step=int(rng.integers(0, N)),
            **more,
        )
        for number in range(count)
    ]


def played(engine, images, rng):
    """Let images join at random ticks and some be cancelled; returns the latents of those that were not."""
    waiting, done = list(images), {}
    while waiting or len(engine):
        while waiting and rng.random() < 0.6:
            engine.add(waiting.pop(0))
        done |= engine.tick()
        inside = list(engine.steps_left())
        if inside and rng.random() < 0.1:
            engine.cancel(inside[int(rng.integers(len(inside)))])
    return done


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_an_image_in_a_shifting_batch_is_that_of_hybrid_alone(model, scheduler, guidance):
    settings = sampling(scheduler=scheduler, guidance_scale=guidance)
    rng = np.random.default_rng([SCHEDULERS.index(scheduler), int(guidance)])
    for count in (1, 4, 7):
        images = drawn(rng, count)
        done = played(InFlight(model, settings, most=5), images, rng)
        for image in images:
            if image.name in done:
                torch.testing.assert_close(done[image.name], alone(model, image, settings), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("order", range(50))
def test_every_batch_size_up_to_16_and_50_join_orders(model, order):
    settings, rng = sampling(), np.random.default_rng([4, order])
    images = drawn(rng, 1 + order % 16)
    done = played(InFlight(model, settings), images, rng)
    for image in images:
        if image.name in done:
            torch.testing.assert_close(done[image.name], alone(model, image, settings), atol=1e-4, rtol=0)


def test_images_may_have_guidance_of_their_own(model):
    settings, engine = sampling(), InFlight(model, sampling())
    images = [
        Image(name=scale, prompt=PROMPTS[0], seed=3, to_step=2, guidance_scale=scale) for scale in (None, 1.0, 2.0, 5.0)
    ]
    for image in images:
        engine.add(image)
    done = {}
    while len(engine):
        done |= engine.tick()
    for image in images:
        torch.testing.assert_close(done[image.name], alone(model, image, settings), atol=1e-4, rtol=0)


def test_equal_requests_share_one_trajectory(model, monkeypatch):
    """Three images of one prompt and seed cost the steps of the longest, whoever comes first; counted."""
    passes = []
    forward = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda x, *a, **k: passes.append(len(x)) or forward(x, *a, **k))
    settings = sampling(guidance_scale=1.0)
    engine = InFlight(model, settings)
    first, later, last = (Image(name=n, prompt=PROMPTS[0], seed=1, to_step=n) for n in (2, 5, 0))
    engine.add(first)
    done = engine.tick() | engine.tick()
    engine.add(later)
    engine.add(last)
    engine.add(Image(name="passed", prompt=PROMPTS[0], seed=1, to_step=7))  # the trajectory has 6 steps left
    while len(engine):
        done |= engine.tick()
    assert engine.shared == 2
    assert sum(passes) == N + 1
    for image in (first, later, last):
        torch.testing.assert_close(done[image.name], alone(model, image, settings), atol=1e-4, rtol=0)
    passes.clear()
    apart = InFlight(model, settings, share=False)
    for image in (first, later):
        apart.add(image)
    while len(apart):
        apart.tick()
    assert sum(passes) == N - 2 + N - 5


def test_an_image_that_joins_at_its_own_split_leaves_without_a_step(model):
    engine = InFlight(model, sampling())
    engine.add(Image(name="long", prompt=PROMPTS[0], seed=1, to_step=0))
    for _ in range(3):
        engine.tick()
    engine.add(Image(name="there", prompt=PROMPTS[0], seed=1, to_step=N - 3))
    done = engine.tick()
    image = Image(name="there", prompt=PROMPTS[0], seed=1, to_step=N - 3)
    torch.testing.assert_close(done["there"], alone(model, image, sampling()), atol=1e-4, rtol=0)


def test_a_cancelled_image_is_out_before_the_next_step(model):
    engine = InFlight(model, sampling())
    for image in drawn(np.random.default_rng(0), 3):
        engine.add(image)
    engine.tick()
    inside = list(engine.steps_left())
    engine.cancel(inside[0])
    assert list(engine.steps_left()) == inside[1:]
    engine.cancel("nobody")
    for name in inside[1:]:
        engine.cancel(name)
    assert engine.tick() == {}
    assert len(engine) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"to_step": N + 1}, "steps: found 8 to 9, accepted: from N = 8 down to 0"),
        ({"seed": -1}, "seed: found -1"),
        ({"prompt": "dog " * 200}, "tokens"),
    ],
)
def test_what_cannot_run_is_refused_and_nobody_else_is_harmed(model, change, said):
    engine = InFlight(model, sampling())
    engine.add(Image(name="good", prompt=PROMPTS[0], seed=0, to_step=N - 1))
    with pytest.raises(InputError, match=said):
        engine.add(Image(**({"name": "bad", "prompt": PROMPTS[0], "seed": 0, "to_step": 1} | change)))
    assert list(engine.steps_left()) == ["good"]
    assert set(engine.tick()) == {"good"}


def test_an_image_that_is_not_finite_leaves_alone_and_at_once(model):
    engine = InFlight(model, sampling())
    engine.add(Image(name="good", prompt=PROMPTS[0], seed=0, to_step=N - 2))
    spoilt = torch.full(model.latent_shape, torch.nan)
    engine.add(Image(name="bad", prompt=PROMPTS[1], latents=spoilt, from_step=5))
    (left,) = engine.tick().values()
    assert isinstance(left, NotFiniteError)
    assert (left.image, left.step) == ("bad", 5)
    assert engine.tick()["good"].isfinite().all()
    assert len(engine) == 0


def test_what_an_image_leaves_with_and_the_prompt_of_one_that_stays_keep_no_others_in_memory(model):
    engine = InFlight(model, sampling())
    for number, prompt in enumerate(PROMPTS):
        engine.add(Image(name=number, prompt=prompt, seed=number, to_step=N - 1 - number))
    done = engine.tick() | engine.tick()
    texts = [conditions["text"] for conditions in engine._prompts._known.values()]
    assert (len(done), len(texts)) == (2, 1)
    for kept in (*done.values(), *texts):
        assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def test_an_image_may_leave_at_another_step(model):
    """The latents are those of an image that was to leave there from the start; one that is past it leaves at once."""
    settings, engine = sampling(), InFlight(model, sampling())
    images = [
        Image(name=name, prompt=PROMPTS[0], seed=seed, to_step=3)
        for seed, name in enumerate(("sooner", "later", "past"))
    ]
    for image in images:
        engine.add(image)
    engine.tick()
    engine.tick()
    assert engine.revise("sooner", 5) == 5
    assert engine.revise("later", 1) == 1
    assert engine.revise("past", 7) == N - 2
    with pytest.raises(KeyError):
        engine.revise("nobody", 2)
    left = {}
    while len(engine):
        left |= engine.tick()
    for image, to_step in zip(images, (5, 1, N - 2), strict=True):
        expected = alone(model, replace(image, to_step=to_step), settings)
        assert torch.allclose(left[image.name], expected, rtol=0, atol=1e-4)


def test_images_that_share_a_trajectory_leave_where_each_is_to(model):
    engine = InFlight(model, sampling())
    for name in ("one", "other"):
        engine.add(Image(name=name, prompt=PROMPTS[0], seed=0, to_step=4))
    engine.tick()
    assert engine.shared == 1
    engine.revise("other", 6)
    assert [list(engine.tick()) for _ in range(3)] == [["other"], [], ["one"]]
