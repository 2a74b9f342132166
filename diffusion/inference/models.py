"""How a text-to-image model is loaded: safetensors only, never a pickle."""

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...common.errors import InputError, shown
from ...common.files import whole_file
from .families.base import Model
from .gpu import check_bf16
from .lora import merge_lora
from .lora_files import with_lora_files
from .parts import load_parts
from .references import CLASS, FORMATS, check_loras, check_origin, has_loras, lora_files, origin_of, read_settings
from .sampling import Sampling
from .schedules import agreed, check_same
from .weights import Placement, check_range

MOST_SCALE = 10
"""The largest factor of what LoRAs change."""
DTYPES = dict(zip(FORMATS, (torch.float32, torch.float16, torch.bfloat16), strict=True))


def torch_dtype(name: str) -> torch.dtype:
    """The number format of a name.

    Raises:
        InputError: for a name that is not in `DTYPES`.
    """
    if name not in DTYPES:
        raise InputError(f"dtype: found {shown(name)}, accepted: {', '.join(DTYPES)}")
    return DTYPES[name]


def weights_digest(*modules: Any) -> str:
    """A hash of the weights of modules, taken as fp32: the same on every device and in every memory format."""
    digest = hashlib.sha256()
    for module in modules:
        for name, weight in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.float().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def load_model(reference: str | Path, *, subject: str | None = None, dtype: str = "fp32", device: str = "cpu") -> Model:
    """Load a diffusers folder, a hub id, a checkpoint in one file, or a folder with LoRAs and the name of their base.

    Args:
        reference: folder, file or hub id of the model.
        subject: words for `{subject}`; None for those that `dreambooth` stored, or "dog" where it stored none.
        dtype: number format of the weights, "fp16", "bf16" or "fp32".
        device: device to load it onto, such as "cpu" or "cuda:0".

    Raises:
        InputError: one line, for anything that is not a model of a known family in safetensors; for one that the
            device's memory does not hold; for bf16 on a GPU that lacks it.
    """
    settings, placement = read_settings(Path(reference)), Placement(device, torch_dtype(dtype))
    if dtype == "bf16":
        check_bf16(device, "dtype: ")
    origin = origin_of(str(reference))
    check_origin(origin)
    check_loras(str(reference), origin)
    adapted = has_loras(str(reference), origin)
    model = load_parts(origin, placement, exact=adapted)
    if adapted:
        _check_base(reference, settings, model)
        model = _with_loras(model, Path(reference), settings, placement)
    return replace(model, name=str(reference), subject=subject or settings.get("subject") or CLASS)


def _with_loras(base: Model, folder: Path, settings: dict[str, str], placement: Placement) -> Model:
    """A base with the LoRAs of a folder, and then its number format: in fp16 and bf16 they would be rounded twice."""
    networks = base.networks | _merged(base, folder, settings)
    placed = {}
    for name, network in networks.items():
        dtype = base.number_format(name, network.config if name == "vae" else {}, placement.dtype)
        for weight_name, weight in network.named_parameters():
            check_range(f"{folder}: {name}: {weight_name}", weight.detach(), dtype)
        placed[name] = replace(placement, dtype=dtype).of(network)
    return replace(base, **placed)


def _merged(base: Model, folder: Path, settings: dict[str, str]) -> dict[str, Any]:
    """The networks of a base with the LoRAs of a folder: those of dreambooth, by part, or files of other programs."""
    if not lora_files(folder):
        return merge_lora(base.parts, folder)
    scale = settings.get("scale", "1")
    try:
        factor = float(scale)
    except ValueError:
        factor = math.nan
    if not -MOST_SCALE <= factor <= MOST_SCALE:
        raise InputError(f"{folder}: scale: found {shown(scale)}, accepted: a number up to {MOST_SCALE}")
    return with_lora_files(base, folder, factor)


def make_pipeline(family: type[Model], scheduler: Any, parts: Mapping[str, Any]) -> Any:
    """A family's pipeline in diffusers of its parts, without a safety checker and other parts that it may lack."""
    import diffusers

    maker = getattr(diffusers, family.PIPELINES[0])
    others = set(inspect.signature(maker.__init__).parameters) - {"self", "scheduler", *parts}
    lacking = {name: None for name in others if name in maker._optional_components or name in family.PARTS}
    quiet = {"requires_safety_checker": False} if "requires_safety_checker" in others else {}
    return maker(scheduler=scheduler, **parts, **lacking, **quiet)


def save_half(pipeline: Any, folder: Path) -> None:
    """Save a pipeline's weights as fp16, in files that load in any number format, by default in fp32.

    Transformers loads a text encoder in the format of its file and diffusers everything else in fp32, which would not
    fit together; so the text encoder's configuration asks for fp32. No configuration keeps the path that a part was
    loaded from on this machine.
    """
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        if path.parent.name == "text_encoder":
            config["dtype"] = "float32"
        with whole_file(path) as handle:
            handle.write(json.dumps(config, indent=2, sort_keys=True) + "\n")


LATENT_FACTS: dict[str, Callable[[Model], Any]] = {
    "family": lambda model: model.KIND,
    "latent shape": lambda model: model.latent_shape,
    "latent scale": lambda model: model.vae.config.scaling_factor,
    "latent mean": lambda model: getattr(model.vae.config, "latents_mean", None),
    "latent deviation": lambda model: getattr(model.vae.config, "latents_std", None),
    "latent shift": lambda model: getattr(model.vae.config, "shift_factor", None) or 0.0,
}
"""What two models must have in common for one to go on from the other's latents."""


def latent_facts(model: Model) -> dict[str, str]:
    """What two models must have in common, in words, as edge and device say it to each other."""
    return {what: str(fact(model)) for what, fact in LATENT_FACTS.items()}


def check_scheduler(model: Model, sampling: Sampling) -> None:
    """Refuse a scheduler that is made for other kinds of models.

    Raises:
        InputError: naming the schedulers that can run it.
    """
    if sampling.scheduler not in model.SCHEDULERS:
        raise InputError(
            f"scheduler: found {sampling.scheduler}, accepted for {model.name} ({model.KIND}): "
            f"{', '.join(model.SCHEDULERS)}"
        )


def paired(edge: Model, personal: Sequence[Model], sampling: Sampling) -> tuple[Model, list[Model]]:
    """Models that take the same steps: what one of them says of its scheduler holds for those that do not say.

    Returns:
        the edge's model, and the personal ones in their order.

    Raises:
        InputError: naming two models that cannot hand off and what differs, before any step runs.
    """
    for model in personal:
        for what, fact in LATENT_FACTS.items():
            check_same(what, (edge.name, fact(edge)), (model.name, fact(model)))
    models = [edge, *personal]
    for model in models:
        check_scheduler(model, sampling)
    decisive = {option for model in models for option in _decisive(model, sampling)}
    config = agreed([(model.name, model.scheduler_config) for model in models], decisive)
    first, *others = (replace(model, scheduler_config=config) for model in models)
    return first, others


def _decisive(model: Model, sampling: Sampling) -> Collection[str]:
    """The options that decide the steps of a model."""
    try:
        return sampling.decisive(model.scheduler_config)
    except InputError as error:
        raise InputError(f"{model.name}: {error}") from error


def _check_base(reference: str | Path, settings: dict[str, str], base: Model) -> None:
    """Refuse a base whose weights are not those that the LoRA was made for; LoRAs from elsewhere do not name them."""
    made_for = settings.get("base_digest")
    if made_for and made_for != (digest := weights_digest(base.network, *base.text_encoders.values())):
        raise InputError(
            f"{reference}: its LoRA was made for a base with weights {made_for}, and {settings['base']} has {digest}; "
            "use the base it was made for"
        )
