"""The parts of a Stable Diffusion model, loaded from a folder in diffusers' format and checked against each other."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from .hub import hub_file, hub_model
from .model_paths import INDEX, check_model_path
from .schedules import said
from .weights import fitting, read_tensors, weight_files

CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
"""Part -> the class that it has in Stable Diffusion 1.x and 2.x."""
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
"""Part -> name of the file with its weights, without the suffix."""
LAYERS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers")
"""Options of configurations that say how many layers there are."""
LARGEST_SIDE = 4096
"""The largest side of the latents that a model may have."""


def load_parts(reference: str) -> dict[str, Any]:
    """The parts of a folder in diffusers' format, or of a hub id, as the fields of `Model` of the same names.

    Raises:
        InputError: one line, for anything that is not a whole Stable Diffusion 1.x or 2.x model in safetensors.
    """
    check_model_path(reference)
    _silence()
    folder = _folder(reference)
    networks = {part: _network(folder / part, part) for part in CLASSES}
    pipeline = _pipeline(reference, folder, networks)
    parts = networks | {"tokenizer": pipeline.tokenizer, "scheduler_config": said(pipeline.scheduler.config)}
    for what, found, accepted in _faults(parts):
        raise InputError(f"{reference}: {what}: found {found}, accepted: {accepted}")
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
    for part, accepted in CLASSES.items():
        named = index.get(part)
        found = named[-1] if isinstance(named, list) and named else named
        if found != accepted:
            raise InputError(f"{reference}: {part}: found {shown(found)}, accepted: {accepted} (SD 1.x and 2.x)")


def _read_json(reference: str, path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder."""
    try:
        content = json.loads(read_text(path))
    except (InputError, ValueError, RecursionError) as error:
        raise _unloadable(reference, error) from error
    return content if isinstance(content, dict) else {}


def _unloadable(reference: str, error: Exception) -> InputError:
    return InputError(
        f"{reference}: cannot load ({reason_of(error, 140)}); name a folder in diffusers' format with safetensors "
        "weights, or a hub id that this machine can reach"
    )


def _network(folder: Path, part: str) -> Any:
    """One part with all its weights from the file, in fp32."""
    files = weight_files(folder, STEMS[part])
    tensors = read_tensors(files)
    config = _read_json(str(folder), folder / "config.json")
    _check_config(folder, config, len(tensors))
    network = _without_weights(folder, _makers()[part], config)
    place = files[0] if len(files) == 1 else folder
    own = fitting(place, tensors, network.state_dict(), all_used=part != "text_encoder")
    network.load_state_dict(own, assign=True)
    return network


def _makers() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Part -> function that makes its network from a configuration."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    return {
        "unet": UNet2DConditionModel.from_config,
        "vae": AutoencoderKL.from_config,
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig(**(config.get("text_config") or config))),
    }


def _check_config(folder: Path, config: dict[str, Any], weights: int) -> None:
    """Refuse what would take forever to make, or other numbers than floating-point ones."""
    if config.get("quantization_config"):
        raise InputError(
            f"{folder}: found quantised weights, accepted: float16, bfloat16 or float32; export the model so"
        )
    for option in LAYERS:
        if any(isinstance(n, int) and n > weights for n in _flat(config.get(option))):
            found = f"found {option} {shown(config[option])}"
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
    from accelerate import init_empty_weights

    try:
        with init_empty_weights():
            return make(config)
    except Exception as error:  # of whatever the configuration has made impossible
        raise InputError(
            f"{folder}: cannot load (its config.json makes no network: {reason_of(error)}); download or export it again"
        ) from error


def _pipeline(reference: str, folder: Path, networks: dict[str, Any]) -> Any:
    """The pipeline of the networks with the tokenizer and the scheduler of the folder, corrected as diffusers does."""
    from diffusers import StableDiffusionPipeline

    try:
        return StableDiffusionPipeline.from_pretrained(
            str(folder),
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
            **networks,
        )
    except Exception as error:  # tokenizer and scheduler raise whatever their files make them
        raise _unloadable(reference, error) from error


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
    for option in ("class_embed_type", "addition_embed_type", "num_class_embeds"):
        if unet.get(option) is not None:
            yield "unet", f"{option} {shown(unet[option])}", "none (SD 1.x and 2.x)"
    if not (isinstance(vae.scaling_factor, int | float) and 0 < vae.scaling_factor < math.inf):
        yield "vae", f"scaling_factor {shown(vae.scaling_factor)}", "a number above 0"
    yield from _tokenizer_faults(parts["tokenizer"], text)


def _tokenizer_faults(tokenizer: Any, text: Any) -> Iterator[tuple[str, str, str]]:
    if not 3 <= len(tokenizer) <= text.vocab_size:
        yield "tokenizer", f"{len(tokenizer)} tokens", f"no more than its text encoder's {text.vocab_size}"
    if tokenizer.pad_token_id is None:
        yield "tokenizer", "no pad_token", "one, such as '<|endoftext|>'"


def longest_prompt(tokenizer: Any, text_encoder: Any) -> int:
    """The most tokens of a prompt, begin and end among them; a tokenizer's file does not always say."""
    return int(min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings))
