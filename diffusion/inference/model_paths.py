"""What stands where a model should: a folder in diffusers' format, or what it is instead and how to make one of it.

Nothing here needs torch, so that a wrong path is refused at once.
"""

import json
import struct
from pathlib import Path

from ...common.errors import InputError

SAFETENSORS = ".safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Suffixes of files that can run code when they are read."""
PICKLED = (b"\x80", b"PK\x03\x04")
"""What such files begin with, whatever their suffix."""
INDEX = "model_index.json"
"""A file that every folder in diffusers' format holds; it names the class of the model."""
FEWEST_WEIGHTS = 10
"""Fewest tensors of a network."""
ACCEPTED = "a folder in diffusers' format"
NOTE = "edgesplit.json"
"""A file beside LoRAs that names their base."""


def check_model_path(reference: str) -> None:
    """Refuse a reference that is neither a folder in diffusers' format nor like a hub id, and say what it is.

    Raises:
        InputError: one line.
    """
    path = Path(reference)
    place = reference if reference.isprintable() else repr(reference)
    if "://" in reference:
        raise InputError(f"{place}: found a link, accepted: a folder here, or a model on the hub as OWNER/NAME")
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or with a null byte
        raise InputError(f"{place[:200]}: no such folder; name a model in diffusers' format or a hub id") from error
    if not exists:
        if reference.count("/") == 1 and not reference.startswith((".", "/")):
            return  # a hub id
        raise InputError(f"{place}: no such folder; name a model in diffusers' format or a hub id")
    if path.is_file():
        raise InputError(f"{place}: {_what_file(path)}")
    if not path.is_dir():  # a pipe or a device, which might never end
        raise InputError(f"{place}: found neither a file nor a folder, accepted: {ACCEPTED}")
    if not (path / INDEX).is_file():
        raise InputError(f"{place}: found no {INDEX}, accepted: {ACCEPTED}{_what_folder(path)}")


def _what_file(path: Path) -> str:
    """What a file is, and how a model comes of it."""
    suffix = path.suffix.casefold()
    if suffix in PICKLES or (suffix != SAFETENSORS and _begins_with(path, PICKLED)):
        return (
            f"found a file, accepted: {ACCEPTED} with safetensors weights (pickle checkpoints are refused: they can "
            "run code); convert it first"
        )
    if suffix == SAFETENSORS:
        return f"found {_what_weights(path)}"
    if path.name == INDEX:
        return f"found a file of a model, accepted: its folder, {path.parent}"
    return f"found a file, accepted: {ACCEPTED} with safetensors weights"


def _what_weights(path: Path) -> str:
    names = tensor_names(path)
    file = path.name.replace("'", "")
    if not names:
        return f"a file that is not whole safetensors, accepted: {ACCEPTED}"
    if any("lora" in name or "hada_" in name for name in names):
        return (
            f"a LoRA in one file, accepted: {ACCEPTED}; put {file} into a folder with {NOTE}, which says "
            '{"base": "ITS MODEL", "subject": "ITS TRIGGER WORDS"}, and name that folder'
        )
    if any(name.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")) for name in names):
        return (
            f"a checkpoint in one file, accepted: {ACCEPTED}; convert it in Python: "
            f"StableDiffusionPipeline.from_single_file('{file}').save_pretrained('FOLDER')"
        )
    if len(names) < FEWEST_WEIGHTS:
        return f"{len(names)} tensors, as of a textual inversion, accepted: {ACCEPTED}"
    return (
        f"the weights of one network alone, accepted: {ACCEPTED}, which holds all parts of a model and {INDEX}; name "
        "that folder"
    )


def _begins_with(path: Path, signs: tuple[bytes, ...]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(max(map(len, signs))).startswith(signs)
    except OSError:
        return False


def tensor_names(path: Path) -> list[str]:
    """The names of the tensors in a file, from its header alone; none where it is not safetensors."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return [name for name in header if name != "__metadata__"]
    except (OSError, struct.error, ValueError, TypeError, RecursionError):
        return []


def _what_folder(path: Path) -> str:
    """A hint to what a folder is, as the end of a message; empty where nothing is known."""
    if (path / "cluster").is_dir() and (path / "users").is_dir():
        return "; this is a cohort: use --cohort"
    if (path.parent / INDEX).is_file():
        return f"; this is a part of one: name {path.parent}"
    if (path / "adapter_config.json").is_file() or list(path.glob("*lora*.safetensors")):
        return f'; this is a LoRA: write {{"base": "ITS MODEL", "subject": "ITS TRIGGER WORDS"}} into {NOTE} beside it'
    inner = sorted(index.parent.name for index in path.glob(f"*/{INDEX}"))
    if inner:
        return f"; there are models in it: {', '.join(inner[:3])}"
    files = sorted(file.name for file in path.glob(f"*{SAFETENSORS}"))
    return f", not {files[0]} alone; convert it with from_single_file of diffusers" if files else ""
