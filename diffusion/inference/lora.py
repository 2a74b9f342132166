"""LoRAs: small personal weights on a shared base, made and merged by peft, stored as safetensors."""

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from .weights import fitting, read_tensors

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections of the network that a LoRA adapts."""
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The same of a text encoder."""
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CHOICES = ("exclude_modules", "layers_to_transform", "layers_pattern")
"""Options that take some of the target modules out."""
MOST_RANK = 4096
MOST_ALPHA = 1_000_000
PATTERNS = ("rank_pattern", "alpha_pattern")
"""Options of a LoRA with regular expressions for layers."""


def add_lora(part: str, module: Any, rank: int) -> Any:
    """A peft model around a part of a model; only its adapter has gradients.

    Args:
        part: name of the part.
        module: the part.
        rank: rank of the adapter's matrices.
    """
    from peft import LoraConfig, get_peft_model

    targets = TEXT_TARGETS if part.startswith("text_encoder") else TARGETS
    return get_peft_model(module, LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)))


def merge_lora(parts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The base's parts with the adapters in a folder merged into their weights.

    Raises:
        InputError: for an adapter that is missing, pickled, incomplete, damaged, or made for another base.
    """
    possible = [name for name, part in parts.items() if hasattr(part, "named_modules") and name != "vae"]
    adapted = [part for part in possible if (folder / part).is_dir()]
    if not adapted:
        raise InputError(f"{folder}: found no LoRA, accepted: folders {' and '.join(possible)}; run dreambooth again")
    return {part: merged(part, parts[part], folder / part) for part in adapted}


def merged(part: str, module: Any, folder: Path, scale: float = 1.0) -> Any:
    """A part with the adapter in a folder merged into its weights.

    Args:
        part: name of the part.
        module: the part; it is changed.
        folder: folder with an adapter that peft wrote.
        scale: factor of what it changes.

    Raises:
        InputError: for an adapter that is missing, pickled, incomplete, damaged, or made for another base.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder}: found no {WEIGHTS}, accepted: a LoRA in safetensors (pickles are refused)")
    tensors = {_plain(name, part): tensor for name, tensor in read_tensors([path]).items()}
    if not any(bool(tensor.any()) for tensor in tensors.values()):
        found = "only zeros" if tensors else "no weights"
        raise InputError(f"{path}: found {found}, accepted: a LoRA that changes its base; train it again")
    try:
        return _with_adapter(part, module, folder, tensors, scale)
    except InputError:
        raise
    except Exception as error:  # peft raises whatever a configuration makes it
        raise InputError(
            f"{folder}: does not fit the {part} of its base ({reason_of(error, 120)}); use the base it was made for"
        ) from error


def _plain(name: str, part: str) -> str:
    """The name of an adapter's weights within the part that it adapts, without what other programs add to it."""
    name = name.removeprefix("base_model.model.").replace("_orig_mod.", "").replace(".default.", ".")
    return name.removeprefix(f"{part}.")


def _with_adapter(part: str, module: Any, folder: Path, tensors: dict[str, Tensor], scale: float) -> Any:
    """A part with an adapter merged into its weights."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    content = json.loads(read_text(folder / CONFIG))
    _check_configuration(content)
    layers = {name.partition(".lora_")[0] for name in tensors}
    _check_layers(layers, [] if any(content.get(name) for name in CHOICES) else content.get("target_modules"), module)
    config = LoraConfig.from_pretrained(str(folder))
    config.target_modules = layers  # in place of regular expressions, which may take forever
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    config.megatron_config = None  # which comes with the name of a module to import
    config.init_lora_weights, config.inference_mode = True, True
    adapter = get_peft_model(module, config)
    expected = {_plain(name, part): tensor for name, tensor in get_peft_model_state_dict(adapter).items()}
    own = fitting(folder / WEIGHTS, tensors, expected, owner=f"the {part} of its base")
    scaled = {name: tensor * scale if ".lora_B." in name else tensor for name, tensor in own.items()}
    set_peft_model_state_dict(adapter, {f"base_model.model.{name}": tensor for name, tensor in scaled.items()})
    return adapter.merge_and_unload()


def _check_configuration(content: dict[str, Any]) -> None:
    """Refuse options that would take forever, or make numbers that are none."""
    if content.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"found {shown(content['peft_type'])}, accepted: LORA")
    patterns = {option: content.get(option) or {} for option in PATTERNS}
    for option, by_layer in patterns.items():  # peft takes its keys for regular expressions
        if bad := [key for key in by_layer if not re.fullmatch(r"[\w.]+", key)]:
            raise ValueError(f"{option}: found {shown(bad[0])}, accepted: names of layers")
    for rank in (content.get("r"), *patterns["rank_pattern"].values()):
        if type(rank) is not int or not 0 < rank <= MOST_RANK:
            raise ValueError(f"r: found {shown(rank)}, accepted: 1 to {MOST_RANK}")
    for alpha in (content.get("lora_alpha"), *patterns["alpha_pattern"].values()):
        if not isinstance(alpha, int | float) or not abs(alpha) <= MOST_ALPHA:
            raise ValueError(f"lora_alpha: found {shown(alpha)}, accepted: a number up to {MOST_ALPHA}")


def _check_layers(layers: set[str], targets: Any, module: Any) -> None:
    """Refuse adapters of layers that the base lacks, which peft would pass over, and layers without their adapter."""
    known = [name for name, _ in module.named_modules()]
    if unknown := sorted(layers - set(known)):
        raise ValueError(f"no layer {unknown[0]}")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        return  # a regular expression
    ends = tuple(f".{target}" for target in targets)
    if missing := [name for name in known if f".{name}".endswith(ends) and name not in layers]:
        raise ValueError(f"no weights for {missing[0]}")
