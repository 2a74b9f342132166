"""The parts of a model, loaded straight into their place and checked against each other."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ...common.errors import InputError, reason_of, shown
from .families.base import Model, Part
from .index import unloadable
from .memory import check_fits
from .references import CLASS, Origin
from .sources import ModelSource, Weights, source_of
from .weights import Placement, fitting

TRANSFORMER = (1, 1)
"""In place of a UNet's blocks, each but the last of which halves the sides; a transformer's patches do so once."""
LAYERS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers", "num_layers", "num_single_layers")
"""Options of configurations that say how many layers there are."""


def load_parts(origin: Origin, placement: Placement, exact: bool = False) -> Model:
    """A model on its device and in its number format from the start: the host's memory never holds it in fp32 first.

    Args:
        origin: what its weights come from, checked by `check_origin`.
        placement: device and number format.
        exact: whether weights keep the precision of their files, as LoRAs are added to them before they are rounded.

    Raises:
        InputError: one line, for anything that is not a whole model of a known family in safetensors, or that the
            device's memory does not hold.
    """
    _silence()
    source = source_of(origin)
    family, index = source.family, source.index
    empty = {
        name: _Empty.of(source, name, placement, exact)
        for name, part in family.PARTS.items()
        if source.has(name) and not part.is_tokenizer
    }
    check_fits(origin.name, [(each.network, each.placement.dtype) for each in empty.values()], placement.device)
    parts = {name: empty[name].filled() if name in empty else source.tokenizer(name)
             for name in family.PARTS if source.has(name)}  # fmt: skip
    options = {field.name: index[field.name] for field in fields(family) if type(index.get(field.name)) is bool}
    try:
        words = family.words_of_scheduler(source.scheduler())
        model = family(name=origin.name, scheduler_config=words, subject=CLASS, **parts, **options)
        faults = list(model.faults())
    except (AttributeError, TypeError, ValueError) as error:  # of a configuration of another kind of network
        raise unloadable(origin.name, error) from error
    for what, found, accepted in faults:
        raise InputError(f"{origin.name}: {what}: found {found}, accepted: {accepted}")
    _try_out(model)
    return model


def _silence() -> None:
    """Keep the libraries' advice and progress bars, which are about pipelines, from the terminal."""
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


# -- networks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Empty:
    """A network that waits for its weights.

    Attributes:
        network: the network; its parameters have shapes and take no memory.
        weights: what comes into it.
        placement: where it shall be.
        strict: whether weights that it has no place for are refused.
    """

    network: Any
    weights: Weights
    placement: Placement
    strict: bool

    @classmethod
    def of(cls, source: ModelSource, name: str, placement: Placement, exact: bool) -> "_Empty":
        """The network of a part."""
        weights, family = source.weights(name), source.family
        if not weights.tensors:
            raise InputError(f"{weights.place}: found no weights in it; download or export the model again")
        config = source.config(name)
        _check_config(weights, config)
        dtype = family.number_format(name, config, placement.dtype)
        if exact:
            dtype = _as_exact(weights.tensors, dtype)
        network = _without_weights(weights, family.PARTS[name], config)
        return cls(network, weights, replace(placement, dtype=dtype), not name.startswith("text_encoder"))

    def filled(self) -> Any:
        """The network with its weights."""
        place, network = self.weights.place, self.network
        tensors = _untied(network, self._converted())
        own = fitting(place, tensors, network.state_dict(), all_used=self.strict, placement=self.placement)
        network.load_state_dict(own, assign=True)
        return self.placement.of(network)

    def _converted(self) -> dict[str, Tensor]:
        """The weights by the network's own names; of one file, all of them must have found a place."""
        place, tensors = self.weights.place, self.weights.tensors
        try:
            converted = self.weights.convert(tensors, self.network)
        except KeyError as error:
            raise InputError(f"{place}: found no weights {error}; download the checkpoint again") from error
        except Exception as error:  # whatever a file makes the functions of diffusers raise
            raise InputError(
                f"{place}: cannot load ({reason_of(error)}); its weights are not those of a published model: name a "
                "base of its sizes, or download it again"
            ) from error
        if self.strict and (left := _numbers(tensors) - _numbers(converted)):
            raise InputError(
                f"{place}: found {left:,} numbers in its weights that its config.json has no place for; name a base of "
                "its sizes"
            )
        return converted


def _numbers(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _as_exact(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> torch.dtype:
    """A number format that holds what lies in files and what is wanted: fp32 at most."""
    kinds = {tensor.dtype for tensor in tensors.values()}
    wide = bool(kinds & {torch.float32, torch.float64})
    return torch.float32 if wide else reduce(torch.promote_types, kinds & {torch.float16, torch.bfloat16}, dtype)


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


def _check_config(weights: Weights, config: dict[str, Any]) -> None:
    """Refuse what would take forever to make, or other numbers than floating-point ones."""
    place, count = weights.place, len(weights.tensors)
    if config.get("quantization_config"):
        raise InputError(
            f"{place}: found quantised weights, accepted: float16, bfloat16 or float32; export the model so"
        )
    for option, value in config.items():
        many = isinstance(value, list) and len(value) > count
        if many or (option in LAYERS and any(isinstance(n, int) and n > count for n in _flat(value))):
            found = f"found {option} {shown(value)}"
            raise InputError(f"{place}: {found}, accepted: no more than the {count} weights in its file")


def _flat(value: Any) -> Iterator[Any]:
    """The entries of lists in lists; a value that is no list is its own entry."""
    if isinstance(value, list):
        for entry in value:
            yield from _flat(entry)
    else:
        yield value


def _without_weights(weights: Weights, part: Part, config: dict[str, Any]) -> Any:
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
            f"{weights.place}: cannot load (its config.json makes no network: {reason_of(error)}); download or export "
            "it again"
        ) from error


def _made(part: Part, config: dict[str, Any]) -> Any:
    """A network of a part's class."""
    kind = getattr(importlib.import_module(part.library), part.classes[0])
    if part.library == "diffusers":
        return kind.from_config(config)
    return kind(kind.config_class(**(config.get("text_config") or config)))


# -- whole models -------------------------------------------------------------------------------------------


@torch.inference_mode()
def _try_out(model: Model) -> None:
    """Run every network once on very little, and refuse a model whose configuration cannot run."""
    side = 2 ** (len(getattr(model.network.config, "block_out_channels", TRANSFORMER)) - 1)
    place = "text encoders"
    try:
        conditions = model.with_guidance(model.encode([""]), model.USUAL_GUIDANCE)
        place = model.NETWORK
        latents = torch.zeros(1, model.channels, side, side, device=model.device, dtype=model.dtype)
        timestep = torch.ones(1, device=model.device)
        same = model.predict(model.network, latents, timestep, conditions).shape == latents.shape
        place = "vae"
        model.vae.decode(latents.to(model.vae.dtype))
    except Exception as error:  # of whatever the configuration has made impossible
        raise InputError(
            f"{model.name}: {place}: cannot run ({reason_of(error)}); its config.json is not that of its weights, or "
            f"not of {model.KIND}"
        ) from error
    if not same:
        raise InputError(f"{model.name}: {place}: found predictions of another size than the latents")
