"""The parts of a model, loaded from a folder in diffusers' format and checked against each other."""

import importlib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from .families.base import Model, Part
from .families.known import family_of
from .hub import hub_file, hub_model
from .model_paths import INDEX, check_model_path
from .references import CLASS
from .weights import fitting, read_tensors, weight_files

TRANSFORMER = (1, 1)
"""In place of a UNet's blocks, each but the last of which halves the sides; a transformer's patches do so once."""
LAYERS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers", "num_layers", "num_single_layers")
"""Options of configurations that say how many layers there are."""


def load_parts(reference: str) -> Model:
    """The model in a folder in diffusers' format, or of a hub id, in fp32 on the CPU.

    Raises:
        InputError: one line, for anything that is not a whole model of a known family in safetensors.
    """
    check_model_path(reference)
    _silence()
    folder, family, index = _folder(reference)
    config = _read_json(reference, folder / "scheduler" / "scheduler_config.json")
    parts = {
        name: _part(folder / name, name, part, family) for name, part in family.PARTS.items() if _is_there(index, name)
    }
    options = {field.name: index[field.name] for field in fields(family) if type(index.get(field.name)) is bool}
    try:
        model = family(
            name=reference, scheduler_config=family.words_of_scheduler(config), subject=CLASS, **parts, **options
        )
        faults = list(model.faults())
    except (AttributeError, TypeError, ValueError) as error:  # of a configuration of another kind of network
        raise _unloadable(reference, error) from error
    for what, found, accepted in faults:
        raise InputError(f"{reference}: {what}: found {found}, accepted: {accepted}")
    _try_out(model)
    return model


def _is_there(index: dict[str, Any], name: str) -> bool:
    named = index.get(name)
    return bool(named and (not isinstance(named, list) or named[-1]))


def _part(folder: Path, name: str, part: Part, family: type[Model]) -> Any:
    return _tokenizer(folder, part) if part.is_tokenizer else _network(folder, name, part, family)


def _silence() -> None:
    """Keep the libraries' advice and progress bars, which are about pipelines, from the terminal."""
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _folder(reference: str) -> tuple[Path, type[Model], dict[str, Any]]:
    """A model's folder, family and index; of one on the hub, only once its index says that it is of a family."""
    if Path(reference).is_dir():
        return Path(reference), *_read_index(reference, Path(reference, INDEX))
    try:
        family, index = _read_index(reference, hub_file(reference, INDEX))
        return hub_model(reference, family.NETWORK), family, index
    except OSError as error:
        raise _unloadable(reference, error) from error


def _read_index(reference: str, path: Path) -> tuple[type[Model], dict[str, Any]]:
    """The family that an index names, and the index; another class of part is refused by name."""
    index = _read_json(reference, path)
    family = family_of(reference, index.get("_class_name"))
    for name, part in family.PARTS.items():
        named = index.get(name)
        found = named[-1] if isinstance(named, list) and named else named
        if found not in part.classes and not (part.optional and found is None):
            raise InputError(f"{reference}: {name}: found {shown(found)}, accepted: {part.classes[0]} ({family.KIND})")
    return family, index


def _read_json(reference: str, path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder."""
    text = read_text(path)
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"{path.name}: found a {type(content).__name__}, accepted: an object")
    except (ValueError, RecursionError) as error:
        raise _unloadable(reference, error) from error
    return content


def _unloadable(reference: object, error: Exception) -> InputError:
    return InputError(
        f"{reference}: cannot load ({reason_of(error, 140)}); name a folder in diffusers' format with safetensors "
        "weights, or a hub id that this machine can reach"
    )


# -- networks -----------------------------------------------------------------------------------------------


def _network(folder: Path, name: str, part: Part, family: type[Model]) -> Any:
    """One part with all its weights from the file, in fp32."""
    files = weight_files(folder, part.stem)
    tensors = read_tensors(files)
    place = files[0] if len(files) == 1 else folder
    if not tensors:
        raise InputError(f"{place}: found no weights in it; download or export the model again")
    config = family.mended(name, _read_json(str(folder), folder / "config.json"))
    _check_config(folder, config, len(tensors))
    network = _without_weights(folder, part, config)
    expected = network.state_dict()
    own = fitting(place, _untied(network, tensors), expected, all_used=not name.startswith("text_encoder"))
    network.load_state_dict(own, assign=True)
    return network


def _untied(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each under all names that a network has for it; a file holds it once."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    filled = dict(tensors)
    for tied in names.values():
        if len(tied) > 1 and (known := next((name for name in tied if name in tensors), None)):
            filled |= dict.fromkeys(tied, tensors[known])
    return filled


def _check_config(folder: Path, config: dict[str, Any], weights: int) -> None:
    """Refuse what would take forever to make, or other numbers than floating-point ones."""
    if config.get("quantization_config"):
        raise InputError(
            f"{folder}: found quantised weights, accepted: float16, bfloat16 or float32; export the model so"
        )
    for option, value in config.items():
        many = isinstance(value, list) and len(value) > weights
        if many or (option in LAYERS and any(isinstance(n, int) and n > weights for n in _flat(value))):
            found = f"found {option} {shown(value)}"
            raise InputError(f"{folder}: {found}, accepted: no more than the {weights} weights in its file")


def _flat(value: Any) -> Iterator[Any]:
    """The entries of lists in lists; a value that is no list is its own entry."""
    if isinstance(value, list):
        for entry in value:
            yield from _flat(entry)
    else:
        yield value


def _without_weights(folder: Path, part: Part, config: dict[str, Any]) -> Any:
    """A network whose parameters have shapes and take no memory; what its configuration alone tells is there."""
    from accelerate import init_empty_weights

    try:
        with init_empty_weights(include_buffers=False):
            network = _made(part, config)
        if hasattr(network, "tie_weights"):  # which making it without memory undoes
            network.tie_weights()
        return network
    except Exception as error:  # of whatever the configuration has made impossible
        raise InputError(
            f"{folder}: cannot load (its config.json makes no network: {reason_of(error)}); download or export it again"
        ) from error


def _made(part: Part, config: dict[str, Any]) -> Any:
    """A network of a part's class."""
    kind = getattr(importlib.import_module(part.library), part.classes[0])
    if part.library == "diffusers":
        return kind.from_config(config)
    return kind(kind.config_class(**(config.get("text_config") or config)))


# -- tokenizer ----------------------------------------------------------------------------------------------


def _tokenizer(folder: Path, part: Part) -> Any:
    import transformers

    if not folder.is_dir():  # a relative path could be taken for a hub id
        raise InputError(f"{folder}: no such folder; name a folder with all parts of a model")
    try:
        return getattr(transformers, part.classes[0]).from_pretrained(folder)
    except Exception as error:  # whatever its files make it raise
        raise _unloadable(folder, error) from error


# -- whole models -------------------------------------------------------------------------------------------


@torch.inference_mode()
def _try_out(model: Model) -> None:
    """Run every network once on very little, and refuse a model whose configuration cannot run."""
    for network in model.networks.values():
        network.eval()
    side = 2 ** (len(getattr(model.network.config, "block_out_channels", TRANSFORMER)) - 1)
    place = "text encoders"
    try:
        conditions = model.with_guidance(model.encode([""]), model.USUAL_GUIDANCE)
        place = model.NETWORK
        latents = torch.zeros(1, model.channels, side, side)
        same = model.predict(model.network, latents, torch.ones(1), conditions).shape == latents.shape
        place = "vae"
        model.vae.decode(latents)
    except Exception as error:  # of whatever the configuration has made impossible
        raise InputError(
            f"{model.name}: {place}: cannot run ({reason_of(error)}); its config.json is not that of its weights, or "
            f"not of {model.KIND}"
        ) from error
    if not same:
        raise InputError(f"{model.name}: {place}: found predictions of another size than the latents")
