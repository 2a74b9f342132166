"""The parts of a Stable Diffusion model, loaded from a folder in diffusers' format and checked against each other."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from .hub import hub_file, hub_model
from .model_paths import INDEX, check_model_path
from .schedules import of_stable_diffusion
from .weights import fitting, read_tensors, weight_files

CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
"""Part -> the class that it has in Stable Diffusion 1.x and 2.x."""
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
"""Part -> name of the file with its weights, without the suffix."""
LAYERS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers")
"""Options of configurations that say how many layers there are."""
LARGEST_SIDE = 4096
"""The largest side of the latents that a model may have."""
OLD_SIDE = 64
"""Side of the latents of models that diffusers below 0.9 saved with a smaller one by mistake."""
FEWEST_TOKENS = 3
"""Begin, end, and one word."""


def load_parts(reference: str) -> dict[str, Any]:
    """The parts of a folder in diffusers' format, or of a hub id, as the fields of `Model` of the same names.

    Raises:
        InputError: one line, for anything that is not a whole Stable Diffusion 1.x or 2.x model in safetensors.
    """
    check_model_path(reference)
    _silence()
    folder = _folder(reference)
    config = _read_json(reference, folder / "scheduler" / "scheduler_config.json")
    parts = {part: _network(folder / part, part) for part in CLASSES}
    parts |= {"tokenizer": _tokenizer(folder / "tokenizer"), "scheduler_config": of_stable_diffusion(config)}
    for what, found, accepted in _faults(parts):
        raise InputError(f"{reference}: {what}: found {found}, accepted: {accepted}")
    _try_out(reference, parts)
    return parts


def _silence() -> None:
    """Keep the libraries' advice and progress bars, which are about pipelines, from the terminal."""
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _folder(reference: str) -> Path:
    """The folder of a model; of one on the hub, only once its index says that it is a Stable Diffusion model."""
    if Path(reference).is_dir():
        _check_index(reference, Path(reference, INDEX))
        return Path(reference)
    try:
        _check_index(reference, hub_file(reference, INDEX))
        return hub_model(reference)
    except OSError as error:
        raise _unloadable(reference, error) from error


def _check_index(reference: str, path: Path) -> None:
    """Refuse another class of model, or of part, by name."""
    index = _read_json(reference, path)
    if (kind := index.get("_class_name")) != "StableDiffusionPipeline":
        raise InputError(f"{reference}: found {shown(kind)}, accepted: StableDiffusionPipeline (SD 1.x and 2.x)")
    for part, accepted in [*((part, (kind,)) for part, kind in CLASSES.items()), ("tokenizer", TOKENIZERS)]:
        named = index.get(part)
        found = named[-1] if isinstance(named, list) and named else named
        if found not in accepted:
            raise InputError(f"{reference}: {part}: found {shown(found)}, accepted: {accepted[0]} (SD 1.x and 2.x)")


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


def _network(folder: Path, part: str) -> Any:
    """One part with all its weights from the file, in fp32."""
    files = weight_files(folder, STEMS[part])
    tensors = read_tensors(files)
    place = files[0] if len(files) == 1 else folder
    if not tensors:
        raise InputError(f"{place}: found no weights in it; download or export the model again")
    config = _read_json(str(folder), folder / "config.json")
    _check_config(folder, config, len(tensors))
    network = _without_weights(folder, _makers()[part], config)
    own = fitting(place, tensors, network.state_dict(), all_used=part != "text_encoder")
    network.load_state_dict(own, assign=True)
    _fill_buffers(folder, network)
    return network


def _makers() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Part -> function that makes its network from a configuration."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    return {
        "unet": lambda config: UNet2DConditionModel.from_config(_with_right_side(config)),
        "vae": AutoencoderKL.from_config,
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig(**(config.get("text_config") or config))),
    }


def _with_right_side(config: dict[str, Any]) -> dict[str, Any]:
    """A UNet's configuration with the side that pipelines of diffusers take where an old version wrote a wrong one."""
    side, version = config.get("sample_size"), str(config.get("_diffusers_version", "1")).split(".")
    old = version[0] == "0" and len(version) > 1 and version[1].isdecimal() and int(version[1]) < 9
    return config | {"sample_size": OLD_SIDE} if old and type(side) is int and side < OLD_SIDE else config


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


def _without_weights(folder: Path, make: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> Any:
    """A network whose parameters have shapes and take no memory."""
    try:
        with torch.device("meta"):
            return make(config)
    except Exception as error:  # of whatever the configuration has made impossible
        raise InputError(
            f"{folder}: cannot load (its config.json makes no network: {reason_of(error)}); download or export it again"
        ) from error


def _fill_buffers(folder: Path, network: nn.Module) -> None:
    """Give a network the buffers that no file holds: the numbers of a text encoder's positions."""
    for name, buffer in network.named_buffers():
        owner, _, own_name = name.rpartition(".")
        if buffer.is_meta and own_name == "position_ids":
            positions = torch.arange(buffer.shape[-1]).expand(buffer.shape).clone()
            network.get_submodule(owner).register_buffer(own_name, positions, persistent=False)
    if unfilled := [name for name, buffer in network.named_buffers() if buffer.is_meta]:
        raise InputError(f"{folder}: found {unfilled[0]} in its config.json's network, accepted: SD 1.x and 2.x")


# -- tokenizer ----------------------------------------------------------------------------------------------


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    if not folder.is_dir():  # a relative path could be taken for a hub id
        raise InputError(f"{folder}: no such folder; name a folder with all parts of a model")
    try:
        return CLIPTokenizer.from_pretrained(folder)
    except Exception as error:  # whatever its files make it raise
        raise _unloadable(folder, error) from error


def longest_prompt(tokenizer: Any, text_encoder: Any) -> int:
    """The most tokens of a prompt, begin and end among them; a tokenizer's file does not always say."""
    return int(min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings))


# -- whole models -------------------------------------------------------------------------------------------


def _faults(parts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What does not fit together: the place, what was found there, and what is accepted."""
    unet, vae, text = (parts[name].config for name in ("unet", "vae", "text_encoder"))
    sides = unet.sample_size if isinstance(unet.sample_size, list | tuple) else [unet.sample_size]
    if not (1 <= len(sides) <= 2 and all(type(side) is int and 0 < side <= LARGEST_SIDE for side in sides)):
        yield "unet", f"sample_size {shown(unet.sample_size)}", f"the latents' side in pixels, up to {LARGEST_SIDE}"
    channels = (unet.in_channels, unet.out_channels, vae.latent_channels)
    if len(set(channels)) > 1:
        yield "unet", f"{channels[0]} channels in and {channels[1]} out", f"as many as its vae has, {channels[2]}"
    if unet.cross_attention_dim != text.hidden_size:
        yield "unet", f"cross_attention_dim {shown(unet.cross_attention_dim)}", f"its text encoder's {text.hidden_size}"
    if vae.out_channels != len("RGB"):
        yield "vae", f"{vae.out_channels} colours", "3"
    if not (isinstance(vae.scaling_factor, int | float) and 0 < vae.scaling_factor < math.inf):
        yield "vae", f"scaling_factor {shown(vae.scaling_factor)}", "a number above 0"
    yield from _tokenizer_faults(parts["tokenizer"], text)


def _tokenizer_faults(tokenizer: Any, text: Any) -> Iterator[tuple[str, str, str]]:
    if len(tokenizer) < FEWEST_TOKENS:
        yield "tokenizer", "no vocabulary", "a folder with tokenizer.json, or vocab.json and merges.txt"
    if len(tokenizer) > text.vocab_size:
        yield "tokenizer", f"{len(tokenizer)} tokens", f"no more than its text encoder has, {text.vocab_size}"
    if tokenizer.pad_token_id is None:
        yield "tokenizer", "no pad_token", "one, such as '<|endoftext|>'"


@torch.inference_mode()
def _try_out(reference: str, parts: dict[str, Any]) -> None:
    """Run every network once on very little, and refuse a model whose configuration cannot run."""
    unet, vae, text = (parts[name].eval() for name in ("unet", "vae", "text_encoder"))
    side = 2 ** (len(unet.config.block_out_channels) - 1)
    latents = torch.zeros(1, unet.config.in_channels, side, side)
    part = "text_encoder"
    try:
        embeddings = text(torch.zeros(1, 1, dtype=torch.long))[0]
        part = "unet"
        same = unet(latents, 1, encoder_hidden_states=embeddings, return_dict=False)[0].shape == latents.shape
        part = "vae"
        vae.decode(latents)
    except Exception as error:  # of whatever the configuration has made impossible
        raise InputError(
            f"{reference}: {part}: cannot run ({reason_of(error)}); its config.json is not that of its weights, or not "
            "of SD 1.x or 2.x"
        ) from error
    if not same:
        raise InputError(f"{reference}: unet: found predictions of another size than the latents, accepted: of theirs")
