"""What a model's file says of its scheduler, and what holds where the file says nothing.

Files of other schedulers do not mention options of ours, and the defaults of a library are made for other models: they
clip the latents of Stable Diffusion, which destroys the pictures.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...common.errors import InputError, shown


@dataclass(frozen=True)
class Values:
    """The values that an option may have.

    Attributes:
        words: description of them.
        hold: function that says whether a value is one of them.
    """

    words: str
    hold: Callable[[Any], bool]


def whole(least: int, most: int) -> Values:
    """Whole numbers of a range."""
    return Values(f"a whole number from {least} to {most}", lambda x: type(x) is int and least <= x <= most)


def number(least: float, most: float) -> Values:
    """Numbers of a range."""
    return Values(f"a number from {least:g} to {most:g}", lambda x: _is_number(x) and least <= x <= most)


def one_of(*names: str) -> Values:
    """Some words."""
    return Values(" or ".join(repr(name) for name in names), lambda x: isinstance(x, str) and x in names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


SWITCH = Values("true or false", lambda x: isinstance(x, bool))
WORD = Values("a word", lambda x: isinstance(x, str))
"""Names that the scheduler's class itself checks."""
NOISE_LEVELS = Values("as many numbers as timesteps", lambda x: isinstance(x, list | tuple) and all(map(_is_number, x)))


@dataclass(frozen=True)
class Option:
    """An option of the schedulers that we offer.

    Attributes:
        usual: value that holds where a model's file does not say.
        accepted: values that it may have.
        why: reason for the usual value.
        of_scheduler: scheduler -> its own usual value, where that differs.
    """

    usual: Any
    accepted: Values
    why: str
    of_scheduler: Mapping[str, Any] = field(default_factory=dict)


OPTIONS = {
    "num_train_timesteps": Option(1000, whole(1, 100_000), "every Stable Diffusion was trained with as many"),
    "beta_schedule": Option("scaled_linear", WORD, "every Stable Diffusion was trained with it"),
    "beta_start": Option(0.00085, number(1e-9, 0.999), "every Stable Diffusion was trained with it"),
    "beta_end": Option(0.012, number(1e-9, 0.999), "every Stable Diffusion was trained with it"),
    "trained_betas": Option(None, NOISE_LEVELS, "the noise levels follow from the options above"),
    "rescale_betas_zero_snr": Option(False, SWITCH, "every Stable Diffusion was trained without"),
    "prediction_type": Option(
        "epsilon", one_of("epsilon", "v_prediction", "sample"), "what was not trained for velocities predicts noise"
    ),
    "steps_offset": Option(1, whole(0, 1000), "every Stable Diffusion starts its steps at 1"),
    "timestep_spacing": Option(
        "leading",
        one_of("leading", "linspace", "trailing"),
        "how steps are spread is the scheduler's own, not the model's",
        {"euler": "linspace", "euler-ancestral": "linspace"},
    ),
    "clip_sample": Option(False, SWITCH, "latents are larger than 1: clipping is for models of pixels"),
    "clip_sample_range": Option(1.0, number(0, 1e6), "it matters only to models that clip"),
    "thresholding": Option(False, SWITCH, "it is for models of pixels, too"),
    "dynamic_thresholding_ratio": Option(0.995, number(0, 1), "it matters only with thresholding"),
    "sample_max_value": Option(1.0, number(0, 1e6), "it matters only with thresholding"),
    "set_alpha_to_one": Option(False, SWITCH, "every Stable Diffusion ends at its own lowest noise level"),
    "variance_type": Option(
        "fixed_small",
        one_of("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
        "DDPM's own; no Stable Diffusion predicts a variance",
    ),
    "interpolation_type": Option("linear", one_of("linear", "log_linear"), "Euler's own"),
    "timestep_type": Option(
        "discrete", one_of("discrete", "continuous"), "every Stable Diffusion was trained with whole timesteps"
    ),
    "final_sigmas_type": Option("zero", one_of("zero", "sigma_min"), "a finished picture has no noise left"),
    "sigma_min": Option(None, number(0, 1e6), "the noise levels are the model's own"),
    "sigma_max": Option(None, number(0, 1e6), "the noise levels are the model's own"),
    "use_karras_sigmas": Option(False, SWITCH, "the noise levels are the model's own"),
    "use_exponential_sigmas": Option(False, SWITCH, "the noise levels are the model's own"),
    "use_beta_sigmas": Option(False, SWITCH, "the noise levels are the model's own"),
    "shift": Option(1.0, number(1e-3, 1e3), "who matches flows and shifts them says by how much"),
    "use_dynamic_shifting": Option(False, SWITCH, "who shifts with the picture's size says so"),
    "base_shift": Option(0.5, number(-1e3, 1e3), "the pipelines of diffusers have it"),
    "max_shift": Option(1.15, number(-1e3, 1e3), "the pipelines of diffusers have it"),
    "base_image_seq_len": Option(256, whole(1, 10**6), "the pipelines of diffusers have it"),
    "max_image_seq_len": Option(4096, whole(2, 10**6), "the pipelines of diffusers have it"),
    "invert_sigmas": Option(False, SWITCH, "it is for one model of videos"),
    "shift_terminal": Option(None, number(1e-6, 1), "the noise levels are the model's own"),
    "time_shift_type": Option("exponential", one_of("exponential", "linear"), "the pipelines of diffusers have it"),
    "stochastic_sampling": Option(False, Values("false", lambda x: x is False), "its noise would have no seed"),
    "image_tokens": Option(4096, whole(1, 10**8), "1024 x 1024 pixels have as many"),
    "last_sigma": Option("trained", one_of("trained", "1/N"), "the least noise of training is the last level"),
}
"""Every option of every scheduler that we offer."""


def said(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says: neither null, nor a default that diffusers filled in, nor one of its own notes."""
    filled = config.get("_use_default_values") or ()
    return {k: v for k, v in config.items() if v is not None and not k.startswith("_") and k not in filled}


def of_stable_diffusion(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the configuration in a Stable Diffusion model's folder says, less what pipelines of diffusers correct in it.

    Old files say that the steps start at 0 and that latents are clipped; no such model was trained so.
    """
    words = said(config)
    if words.get("steps_offset", 1) != 1:
        del words["steps_offset"]
    if words.get("clip_sample") is True:
        del words["clip_sample"]
    return words


def completed(config: Mapping[str, Any], scheduler: str) -> dict[str, Any]:
    """A configuration with every option of `OPTIONS`: what it says, and the usual value where it says nothing.

    Args:
        config: configuration of a model's scheduler.
        scheduler: name of the scheduler that is to run.
    """
    usual = {name: option.of_scheduler.get(scheduler, option.usual) for name, option in OPTIONS.items()}
    return usual | said(config)


def check_options(config: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse a value that one of some options cannot have.

    Raises:
        InputError: naming the option, what was found and what is accepted.
    """
    for name in OPTIONS.keys() & names:
        option, value = OPTIONS[name], config[name]
        if value is not None and not option.accepted.hold(value):
            raise InputError(f"scheduler: option {name!r}: found {shown(value)}, accepted: {option.accepted.words}")


def agreed(configs: Sequence[tuple[str, Mapping[str, Any]]], decisive: Collection[str]) -> dict[str, Any]:
    """What several models together say of their scheduler.

    Args:
        configs: name and configuration of every model.
        decisive: options in which those who mention them must agree.

    Raises:
        InputError: naming two models and an option in which they differ.
    """
    first: dict[str, tuple[str, Any]] = {}
    for name, config in configs:
        for option, value in sorted(said(config).items()):
            before = first.setdefault(option, (name, value))
            if option in decisive:
                check_same(option, before, (name, value))
    return {option: value for option, (_, value) in first.items()}


def check_same(what: str, one: tuple[str, Any], other: tuple[str, Any]) -> None:
    """Refuse two models that differ.

    Args:
        what: name of the value that has to be the same.
        one: name of a model, and its value.
        other: name of another model, and its value.

    Raises:
        InputError: naming both.
    """
    if one[1] != other[1]:
        raise InputError(
            f"{one[0]} and {other[0]}: {what} is {one[1]} and {other[1]}; a hand-off needs the same, so fine-tune both "
            "from one base"
        )
