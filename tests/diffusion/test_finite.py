"""What is not finite stops a run at once, and says which model, split and step it was."""

from dataclasses import replace

import pytest
import torch
from models import as_model, explicit, make_pipeline, save_finished_cohort

from edgesplit.common.errors import InputError
from edgesplit.diffusion.cli import hybrid_main
from edgesplit.diffusion.inference.batch import denoise, generate
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, edge_sweep, finish_local
from edgesplit.diffusion.inference.in_flight import NotFiniteError
from edgesplit.diffusion.inference.noise import initial_noise
from edgesplit.diffusion.inference.sampling import Sampling

N = 6
SAMPLING = Sampling(total_steps=N, guidance_scale=2.0)
TEMPLATE = "a photo of {subject} in snow"


@pytest.fixture
def model():
    return as_model(make_pipeline(seed=1), name="mine")


@pytest.fixture
def breaking(monkeypatch):
    """Call it with step numbers: the samples that take these steps are spoilt by them."""

    def arm(value, steps):
        from edgesplit.diffusion.inference import in_flight

        def broken(group, predictions, own=in_flight.StepGroup.step):
            spoilt = torch.tensor([trajectory.left in steps for trajectory in group.trajectories])[:, None, None, None]
            own(group, torch.where(spoilt, predictions * value, predictions))

        monkeypatch.setattr(in_flight.StepGroup, "step", broken)

    return arm


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("step", [N, 3, 1])
def test_the_first_step_with_latents_that_are_not_finite_is_named(model, breaking, value, step):
    breaking(value, {step})
    noise = initial_noise(model, [0, 1], SAMPLING)
    with pytest.raises(
        NotFiniteError, match=f"mine: step {step} of {N} made latents that are not finite; its"
    ) as caught:
        denoise(model, noise, ["a photo of dog"] * 2, N, 0, SAMPLING)
    assert (caught.value.image, caught.value.step) == (0, step)


def test_steps_that_nobody_takes_harm_nobody(model, breaking):
    breaking(torch.nan, {1, 2})
    assert denoise(model, initial_noise(model, [0], SAMPLING), ["a photo of dog"], N, 2, SAMPLING).isfinite().all()


def test_on_a_gpu_the_check_waits_for_the_last_step(model, breaking, monkeypatch):
    """No step may make the host wait; what it says is the same."""
    monkeypatch.setattr("edgesplit.diffusion.inference.in_flight.HOST", "somewhere else")
    breaking(torch.nan, {4})
    done = []
    with pytest.raises(NotFiniteError, match=f"step 4 of {N}") as caught:
        denoise(model, initial_noise(model, [0], SAMPLING), ["a photo of dog"], N, 0, SAMPLING, count=done.append)
    assert len(done) == N
    assert caught.value.step == 4


def test_hand_offs_name_their_split(model, breaking):
    requests = [Request(prompt_template=TEMPLATE, local_steps=n) for n in (5, 2, 4)]
    handoffs = edge_prefix(model, requests, SAMPLING)
    breaking(torch.nan, {3})
    with pytest.raises(InputError, match=f"^split n = 2: mine: step 3 of {N}"):
        edge_prefix(model, requests, SAMPLING)
    with pytest.raises(InputError, match=rf"^split n = 2: mine: step 3 of {N}"):
        edge_sweep(model, TEMPLATE, 0, [0, 2, 4], SAMPLING)
    with pytest.raises(InputError, match=f"^split n = 4: mine: step 4 of {N}"):
        finish_local(model, [replace(handoffs[2], latents=torch.full_like(handoffs[2].latents, torch.nan))], SAMPLING)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_a_scheduler_without_signal_at_its_first_step_is_told_from_damaged_weights(model, scheduler):
    config = explicit(model.scheduler_config) | {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "prediction_type": "epsilon",
    }
    sampling = replace(SAMPLING, scheduler=scheduler)
    with pytest.raises(InputError, match=f"step {N} of {N} made latents .* leaves no signal in the first step"):
        generate(replace(model, scheduler_config=config), ["a photo of dog"], [0], sampling)
    velocity = config | {"prediction_type": "v_prediction"}
    assert generate(replace(model, scheduler_config=velocity), ["a photo of dog"], [0], sampling).isfinite().all()


def test_a_picture_that_is_not_finite_is_refused(model):
    with torch.no_grad():
        model.vae.decoder.conv_out.weight.fill_(3e38)
    with pytest.raises(InputError, match="mine: its vae made a picture that is not finite; its weights are damaged"):
        model.decode(torch.randn(1, *model.latent_shape))


def test_too_large_numbers_in_fp16_are_told_so(model):
    half = replace(model, unet=model.unet.half(), vae=model.vae.half(), text_encoder=model.text_encoder.half())
    with torch.no_grad():
        half.vae.decoder.conv_out.weight.fill_(6e4)
    with pytest.raises(InputError, match="its vae made a picture that is not finite; try --dtype fp32 or bf16"):
        half.decode(torch.randn(1, *half.latent_shape))
    with pytest.raises(InputError, match="numbers were too large for fp16; try --dtype fp32 or bf16"):
        denoise(half, torch.full((1, *half.latent_shape), torch.inf), ["a photo of dog"], N, 0, SAMPLING)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return save_finished_cohort(tmp_path_factory.mktemp("finished"), names=("anna", "ben"))


@pytest.mark.parametrize("splits", ["0,3,6", "anna=6,ben=3"])
def test_hybrid_says_for_which_user(refusal, cohort, tmp_path, monkeypatch, splits):
    from edgesplit.diffusion.inference import models

    own = models.load_model

    def loaded(reference, **options):
        model = own(reference, **options)
        if "ben" in str(reference):
            with torch.no_grad():
                model.unet.conv_out.bias.fill_(torch.nan)
        return model

    monkeypatch.setattr(models, "load_model", loaded)
    monkeypatch.setattr("edgesplit.common.progress._Lines.__call__", lambda *_: None)
    options = ["--cohort", cohort, "--prompt", TEMPLATE, "--steps", N, "--guidance", 2, "--local-steps", splits]
    line = refusal(hybrid_main, *options, "-o", tmp_path / "out")
    split = 6 if splits.startswith("0") else 3
    assert (
        f"hybrid: user 'ben': split n = {split}: {cohort / 'users' / 'ben'}: step {split} of {N} made latents" in line
    )
