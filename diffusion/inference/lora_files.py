"""LoRAs as other programs write them: files of diffusers, kohya's trainers and A1111, or peft, laid beside a note.

diffusers itself renames their weights, loads them into a pipeline of the base and fuses them. What it would only
warn of is refused here: a LoRA must fit its base whole.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...common.errors import InputError, reason_of
from .families.base import Model
from .lora import WEIGHTS, merged
from .lora_names import DOWN
from .references import lora_files
from .weights import check_finite, read_tensors

FIRST = ".lora_A."
"""What it is called once it is loaded."""


def with_lora_files(model: Model, folder: Path, scale: float) -> dict[str, Any]:
    """The networks of a base with the LoRAs of a folder fused into their weights, by their names.

    Args:
        model: the base; its networks are changed.
        folder: folder with one or several LoRAs.
        scale: factor of what they change; 1 for as they were trained.

    Raises:
        InputError: naming the file, for a LoRA that is damaged, changes nothing, or is not of this family of models.
    """
    for path in lora_files(folder):
        if path.name == WEIGHTS:
            model = replace(model, **{model.NETWORK: merged(model.NETWORK, model.network, folder, scale)})
        else:
            _fuse(model, path, scale)
    return model.networks


def _fuse(model: Model, path: Path, scale: float) -> None:
    """Fuse one file into the networks of a model."""
    _check(path)
    pipeline = _pipeline(model)
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
        _check_whole(path, model, _layers_in(pipeline, path))
        pipeline.fuse_lora(components=_adapted(model), lora_scale=scale)
        pipeline.unload_lora_weights()
    except InputError:
        raise
    except Exception as error:  # diffusers and peft raise whatever a file makes them
        raise _foreign(path, model, reason_of(error, 120)) from error


def _pipeline(model: Model) -> Any:
    from .models import make_pipeline
    from .sampling import scheduler_to_save

    warnings.filterwarnings("ignore", module="diffusers|peft")
    pipeline = make_pipeline(type(model), scheduler_to_save(model.scheduler_config, model.SCHEDULERS[0]), model.parts)
    if not hasattr(pipeline, "load_lora_weights"):
        raise InputError(f"{model.name}: diffusers has no LoRAs for {model.KIND}; name a model with its weights merged")
    return pipeline


def _check(path: Path) -> None:
    """Refuse a file that is damaged, or that changes nothing."""
    tensors = read_tensors([path])
    for name, tensor in tensors.items():
        check_finite(f"{path}: {name}", tensor)
    firsts = [tensor for name, tensor in tensors.items() if any(sign in name for sign in DOWN)]
    if not firsts or not any(bool(tensor.any()) for name, tensor in tensors.items() if "alpha" not in name):
        raise InputError(f"{path}: found no LoRA in it, accepted: low-rank weights that change their base")


def _layers_in(pipeline: Any, path: Path) -> int:
    """The layers that a file adapts, by the names that diffusers gives its weights."""
    loaded = pipeline.lora_state_dict(str(path.parent), weight_name=path.name, local_files_only=True)
    names = loaded[0] if isinstance(loaded, tuple) else loaded
    return sum(any(sign in name for sign in DOWN) for name in names)


def _check_whole(path: Path, model: Model, layers: int) -> None:
    """Refuse a LoRA some of whose layers the base does not have."""
    fitted = sum(FIRST in name for network in model.networks.values() for name, _ in network.named_parameters())
    if fitted != layers or not layers:
        raise _foreign(path, model, f"{fitted} of its {layers} layers are there")


def _foreign(path: Path, model: Model, why: str) -> InputError:
    return InputError(
        f"{path}: this LoRA does not fit {model.name}, which is {model.KIND} ({why}); use the base that it was made for"
    )


def _adapted(model: Model) -> list[str]:
    """The networks that hold an adapter now."""
    return [
        name for name, network in model.networks.items() if any(FIRST in each for each, _ in network.named_parameters())
    ]
