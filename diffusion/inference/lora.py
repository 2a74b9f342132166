"""LoRAs: small personal weights on a shared base, made and merged by peft, stored as safetensors."""

from pathlib import Path
from typing import Any

from ...common.errors import InputError, reason_of

TARGETS = {
    "unet": ["to_q", "to_k", "to_v", "to_out.0"],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj"],
}
"""The attention projections that a LoRA adapts, by part of the model."""
WEIGHTS = "adapter_model.safetensors"


def add_lora(part: str, module: Any, rank: int) -> Any:
    """A peft model around a part of a model; only its adapter has gradients.

    Args:
        part: name of the part, a key of `TARGETS`.
        module: the part.
        rank: rank of the adapter's matrices.
    """
    from peft import LoraConfig, get_peft_model

    return get_peft_model(module, LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS[part]))


def merge_lora(parts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The base's parts with the adapters in a folder merged into their weights.

    Raises:
        InputError: for an adapter that is missing, pickled, or made for another base.
    """
    adapted = [part for part in TARGETS if (folder / part).is_dir()]
    if not adapted:
        raise InputError(f"{folder}: found no LoRA, accepted: folders {' and '.join(TARGETS)}; run dreambooth again")
    return {part: _merged(part, parts[part], folder / part) for part in adapted}


def _merged(part: str, module: Any, folder: Path) -> Any:
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder}: found no {WEIGHTS}, accepted: a LoRA in safetensors (pickles are refused)")
    expected = {name for name, _ in module.named_modules()}
    try:
        _check_names(folder, expected)
        return PeftModel.from_pretrained(module, folder).merge_and_unload()
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise InputError(
            f"{folder}: does not fit the {part} of its base ({reason_of(error, 120)}); use the base it was made for"
        ) from error


def _check_names(folder: Path, expected: set[str]) -> None:
    """Refuse adapters of layers that the base lacks; peft would pass over them in silence."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        names = {key.removeprefix("base_model.model.").partition(".lora_")[0] for key in file.keys()}  # noqa: SIM118
    if unknown := sorted(names - expected):
        raise ValueError(f"no layer {unknown[0]}")
