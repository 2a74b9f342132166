"""Schedulers' configurations: what no file says takes Stable Diffusion's value, and a pair agrees on what is said."""

import inspect
import json
from dataclasses import replace

import diffusers
import pytest
import torch
from documents import ROOT, rows, section
from models import as_model, explicit, make_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.batch import denoise
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, finish_local, hybrid
from edgesplit.diffusion.inference.models import check_scheduler, load_model, paired
from edgesplit.diffusion.inference.noise import initial_noise
from edgesplit.diffusion.inference.sampling import FLOW, OWN_OPTIONS, SCHEDULERS, Sampling, scheduler_to_save
from edgesplit.diffusion.inference.schedules import OPTIONS, completed

N = 4
STABLE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
"""What the file of Stable Diffusion 1.5 says."""
OURS = (
    diffusers.DDIMScheduler,
    diffusers.DDPMScheduler,
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
)
FLOWS = (diffusers.FlowMatchEulerDiscreteScheduler,)
OTHERS = (
    *OURS,
    diffusers.PNDMScheduler,
    diffusers.LMSDiscreteScheduler,
    diffusers.HeunDiscreteScheduler,
    diffusers.DPMSolverMultistepScheduler,
    diffusers.UniPCMultistepScheduler,
    diffusers.DEISMultistepScheduler,
)


def parameters(kind):
    return inspect.signature(kind.__init__).parameters.keys() - {"self"}


def fingerprints(config):
    return [Sampling(total_steps=N, scheduler=name).fingerprint(config) for name in SCHEDULERS]


def test_every_option_of_every_scheduler_has_a_value_of_ours_and_a_reason():
    assert set().union(*map(parameters, OURS + FLOWS)) | set(OWN_OPTIONS) == OPTIONS.keys()
    assert all(
        option.why and (option.usual is None or option.accepted.hold(option.usual)) for option in OPTIONS.values()
    )


def test_the_manual_lists_every_option_with_its_value_and_reason():
    def shown(value):
        return "none" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"

    expected = []
    for name, option in OPTIONS.items():
        others = [f", `{scheduler}`: {shown(value)}" for scheduler, value in option.of_scheduler.items()]
        expected.append([f"`{name}`", shown(option.usual) + "".join(others), option.why])
    assert rows(section(ROOT / "docs" / "hybrid.md", "What a scheduler's file does not say"))[2:] == expected


@pytest.mark.parametrize("option", STABLE)
@pytest.mark.parametrize("change", [dict.pop, lambda config, option: config.update({option: None})])
def test_what_the_file_of_stable_diffusion_does_not_say_is_what_it_was_made_with(option, change):
    config = dict(STABLE)
    change(config, option)
    assert fingerprints(config) == fingerprints(STABLE) == fingerprints({})


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_the_file_of_any_scheduler_runs_without_clipping_as_stable_diffusion_does(kind, tmp_path):
    """Files that diffusers itself writes of the same noise levels, with the spacing that ours has."""
    shared = {name: STABLE[name] for name in STABLE.keys() & parameters(kind)}
    kind(**shared | {"timestep_spacing": "leading"}).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert fingerprints(config) == fingerprints(STABLE | {"timestep_spacing": "leading"})


def test_models_of_stable_diffusion_take_the_steps_of_diffusers_whatever_their_file_says_of_them(tmp_path):
    """Pipelines of diffusers correct files with clipping and steps that start at 0, and so do we."""
    pipeline = make_pipeline(seed=3)
    pipeline.save_pretrained(tmp_path)
    expected = load_model(tmp_path).scheduler_config
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(explicit(pipeline.scheduler.config) | {"clip_sample": True, "steps_offset": 0}))
    assert fingerprints(load_model(tmp_path).scheduler_config) == fingerprints(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_sample": "false"}, "option 'clip_sample': found 'false', accepted: true or false"),
        ({"prediction_type": "flow"}, "option 'prediction_type': found 'flow', accepted: 'epsilon' or"),
        (
            {"num_train_timesteps": 10**12},
            "option 'num_train_timesteps': found 1000000000000, accepted: a whole number",
        ),
        ({"beta_start": "0.1"}, "option 'beta_start': found '0.1', accepted: a number from"),
        ({"beta_schedule": "steep"}, "ddim cannot run with the model's configuration (steep is not implemented"),
        ({"trained_betas": [0.1, 0.2]}, "its noise levels are not 1000 betas from 0 to 1"),
        ({"timestep_spacing": 3}, "option 'timestep_spacing': found 3"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(change, message):
    with pytest.raises(InputError) as caught:
        Sampling().make_scheduler(STABLE | change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_other_schedulers_than_the_one_that_runs_do_not_matter():
    config = STABLE | {"variance_type": "learned_range", "use_karras_sigmas": "perhaps"}
    assert Sampling().fingerprint(config) == Sampling().fingerprint(STABLE)
    with pytest.raises(InputError, match="option 'variance_type': found 'learned_range', accepted: 'fixed_small'"):
        Sampling(scheduler="ddpm").make_scheduler(config)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_only_ddim_and_ddpm_run_models_that_predict_samples(scheduler):
    sampling = Sampling(total_steps=2, scheduler=scheduler)
    model = as_model(make_pipeline(seed=1, prediction_type="sample"))
    if scheduler in FLOW:
        with pytest.raises(InputError, match=f"found {scheduler}, accepted for .*: ddim, ddpm"):
            check_scheduler(model, sampling)
        return
    if not scheduler.startswith("euler"):
        noise = initial_noise(model, [0], sampling)
        assert denoise(model, noise, ["a photo of dog"], 2, 0, sampling, [0]).isfinite().all()
        return
    with pytest.raises(
        InputError, match=f"found {scheduler}, accepted for a model that predicts samples: ddim or ddpm"
    ):
        sampling.make_scheduler(model.scheduler_config)


# -- pairs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edge():
    return as_model(make_pipeline(seed=1), name="edge")


@pytest.fixture(scope="module")
def personal():
    return as_model(make_pipeline(seed=2), name="personal")


def saying(model, **config):
    return replace(model, scheduler_config=explicit(model.scheduler_config) | config)


def silent(model, *options):
    """The model without a word on some options."""
    said = explicit(model.scheduler_config)
    return replace(model, scheduler_config={name: value for name, value in said.items() if name not in options})


@pytest.mark.parametrize(
    ("option", "value"), [("timestep_spacing", "trailing"), ("prediction_type", "epsilon"), ("set_alpha_to_one", True)]
)
@pytest.mark.parametrize("sides", [("edge", "personal"), ("personal", "edge")])
def test_what_one_side_says_holds_for_the_other_that_does_not_say(edge, personal, option, value, sides):
    """They take equal steps, so that the hand-off is accepted."""
    models = {"edge": edge, "personal": personal}
    models[sides[0]] = saying(models[sides[0]], **{option: value})
    models[sides[1]] = silent(models[sides[1]], option)
    sampling, request = Sampling(total_steps=N), Request(prompt_template="a photo of {subject}", local_steps=2)
    first, (second,) = paired(models["edge"], [models["personal"]], sampling)
    config = first.scheduler_config
    assert completed(config, "ddim")[option] == value
    assert sampling.fingerprint(config) == sampling.fingerprint(second.scheduler_config)
    (picture,) = hybrid(models["edge"], [models["personal"]], [request], sampling)
    (handoff,) = edge_prefix(first, [request], sampling)
    assert torch.equal(picture, second.decode(finish_local(second, handoff, sampling))[0])


def test_a_side_that_does_not_say_what_it_would_not_use_is_no_stranger(edge, personal):
    """As EulerDiscreteScheduler writes its own file: without a word on clipping."""
    euler = saying(silent(personal, "clip_sample", "set_alpha_to_one", "thresholding"), use_karras_sigmas=False)
    paired(edge, [euler], Sampling(total_steps=N))


def test_users_who_say_different_things_are_refused_though_the_edge_says_nothing(edge, personal):
    others = [
        replace(saying(personal, timestep_spacing=value), name=name)
        for name, value in (("anna", "leading"), ("ben", "trailing"))
    ]
    with pytest.raises(InputError, match="anna and ben: timestep_spacing is leading and trailing; a hand-off needs"):
        paired(silent(edge, "timestep_spacing"), others, Sampling(total_steps=N))


def test_a_model_s_own_name_stands_before_what_is_wrong_with_its_scheduler(edge, personal):
    with pytest.raises(InputError, match="personal: scheduler: option 'clip_sample': found 3"):
        paired(edge, [saying(personal, clip_sample=3)], Sampling(total_steps=N))


# -- what is saved ------------------------------------------------------------------------------------------


def test_a_saved_scheduler_says_all_that_was_said_and_every_option_of_ddim(tmp_path):
    scheduler_to_save({"beta_end": 0.02, "use_karras_sigmas": True}).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert (saved["beta_end"], saved["use_karras_sigmas"], saved["clip_sample"]) == (0.02, True, False)
    assert parameters(diffusers.DDIMScheduler) <= saved.keys()
    assert fingerprints(saved) == fingerprints(
        {"beta_end": 0.02, "use_karras_sigmas": True, "timestep_spacing": "leading"}
    )
