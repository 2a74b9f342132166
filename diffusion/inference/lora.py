"""LoRAs: small personal weights on a shared base, made and merged by peft, stored as safetensors."""

import json
import re
from pathlib import Path
from typing import Any

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from .weights import fitting, read_tensors

TARGETS = {
    "unet": ["to_q", "to_k", "to_v", "to_out.0"],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj"],
}
"""The attention projections that a LoRA adapts, by part of the model."""
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MOST_RANK = 4096
PATTERNS = ("rank_pattern", "alpha_pattern")
"""Options of a LoRA with regular expressions for layers."""


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
        InputError: for an adapter that is missing, pickled, incomplete, damaged, or made for another base.
    """
    adapted = [part for part in TARGETS if (folder / part).is_dir()]
    if not adapted:
        raise InputError(f"{folder}: found no LoRA, accepted: folders {' and '.join(TARGETS)}; run dreambooth again")
    return {part: _merged(part, parts[part], folder / part) for part in adapted}


def _merged(part: str, module: Any, folder: Path) -> Any:
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder}: found no {WEIGHTS}, accepted: a LoRA in safetensors (pickles are refused)")
    tensors = {_plain(name): tensor for name, tensor in read_tensors([path]).items()}
    layers = sorted({name.partition(".lora_")[0] for name in tensors})
    if not any(bool(tensor.any()) for tensor in tensors.values()):
        raise InputError(f"{path}: found no weights but zeros, accepted: a LoRA that changes its base; train it again")
    try:
        _check_layers(layers, module)
        adapter = get_peft_model(module, _configuration(folder, layers))
        expected = {_plain(name): tensor for name, tensor in get_peft_model_state_dict(adapter).items()}
        own = fitting(path, tensors, expected, owner=f"the {part} of its base")
        set_peft_model_state_dict(adapter, {f"base_model.model.{name}": tensor for name, tensor in own.items()})
        return adapter.merge_and_unload()
    except InputError:
        raise
    except Exception as error:  # peft raises whatever a configuration makes it
        raise InputError(
            f"{folder}: does not fit the {part} of its base ({reason_of(error, 120)}); use the base it was made for"
        ) from error


def _plain(name: str) -> str:
    """The name of an adapter's weights within the part that it adapts."""
    return name.removeprefix("base_model.model.").replace("_orig_mod.", "").replace(".default.", ".")


def _check_layers(layers: list[str], module: Any) -> None:
    """Refuse adapters of layers that the base lacks; peft would pass over them in silence."""
    known = {name for name, _ in module.named_modules()}
    if unknown := [layer for layer in layers if layer not in known]:
        raise ValueError(f"no layer {unknown[0]}")


def _configuration(folder: Path, layers: list[str]) -> Any:
    """The adapter's configuration, for exactly the layers that the file has weights of."""
    from peft import LoraConfig

    content = json.loads(read_text(folder / CONFIG))
    if content.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"found {shown(content['peft_type'])}, accepted: LORA")
    for option in PATTERNS:  # peft takes them for regular expressions, which may take forever
        if bad := [key for key in content.get(option) or {} if not re.fullmatch(r"[\w.]+", key)]:
            raise ValueError(f"{option}: found {shown(bad[0])}, accepted: names of layers")
    ranks = [content.get("r"), *(content.get("rank_pattern") or {}).values()]
    if not all(type(rank) is int and 0 < rank <= MOST_RANK for rank in ranks):
        raise ValueError(f"r: found {shown(ranks[0])}, accepted: 1 to {MOST_RANK}")
    config = LoraConfig.from_pretrained(str(folder))
    config.target_modules = set(layers)
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    config.init_lora_weights, config.inference_mode = True, True
    return config
