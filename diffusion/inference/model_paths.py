"""What stands where a model should: a folder in diffusers' format, or what it is instead and how to make one of it.

Nothing here needs torch, so that a wrong path is refused at once.
"""

from pathlib import Path

from ...common.errors import InputError
from .checkpoints import read_checkpoint
from .families.known import kinds
from .headers import SAFETENSORS, read_header
from .lora_names import is_lora

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Suffixes of files that can run code when they are read."""
PICKLED = (b"\x80", b"PK\x03\x04")
"""What such files begin with, whatever their suffix."""
INDEX = "model_index.json"
"""A file that every folder in diffusers' format holds; it names the class of the model."""
CHECKPOINTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
"""What the names of tensors begin with in checkpoints of many families."""
FEWEST_WEIGHTS = 10
"""Fewest tensors of a network."""
ACCEPTED = "a folder in diffusers' format or a .safetensors checkpoint"
NOTE = "edgesplit.json"
"""A file beside LoRAs that names their base."""


def check_model_path(reference: str) -> None:
    """Refuse a reference that is neither a folder in diffusers' format nor a checkpoint nor like a hub id.

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
    if fault := _fault(path):
        raise InputError(f"{place}: {fault}")


def _fault(path: Path) -> str | None:
    """What is wrong with something that is there; None for a checkpoint, and for a folder with an index."""
    if path.is_file():
        return None if read_checkpoint(path) else _what_file(path)
    if not path.is_dir():  # a pipe or a device, which might never end
        return f"found neither a file nor a folder, accepted: {ACCEPTED}"
    return None if (path / INDEX).is_file() else f"found no {INDEX}, accepted: {ACCEPTED}{_what_folder(path)}"


def _what_file(path: Path) -> str:
    """What a file is, and how a model comes of it."""
    suffix = path.suffix.casefold()
    if suffix in PICKLES or (suffix != SAFETENSORS and _begins_with(path, PICKLED)):
        return (
            f"found a file, accepted: {ACCEPTED} (pickle checkpoints are refused: they can run code); convert it first"
        )
    if suffix == SAFETENSORS:
        return f"found {_what_weights(path)}"
    if path.name == INDEX:
        return f"found a file of a model, accepted: its folder, {path.parent}"
    return f"found a file, accepted: {ACCEPTED}"


def _what_weights(path: Path) -> str:
    header = read_header(path)
    names = header.shapes
    file = path.name.replace("'", "")
    if not names:
        return f"a file that is not whole safetensors, accepted: {ACCEPTED}"
    if is_lora(header):
        return (
            f"a LoRA in one file, accepted: {ACCEPTED}; put {file} into a folder with {NOTE}, which says "
            '{"base": "ITS MODEL", "subject": "ITS TRIGGER WORDS"}, and name that folder'
        )
    if any(name.startswith(CHECKPOINTS) for name in names):
        return f"a checkpoint of another family, accepted: {kinds()}"
    if len(names) < FEWEST_WEIGHTS:
        return f"{len(names)} tensors, as of a textual inversion, accepted: {ACCEPTED}"
    return f"the weights of one network alone, accepted: {ACCEPTED}; name the folder with all parts and {INDEX}"


def _begins_with(path: Path, signs: tuple[bytes, ...]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(max(map(len, signs))).startswith(signs)
    except OSError:
        return False


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
    files = sorted(path.glob(f"*{SAFETENSORS}"))
    return f"; name the file {files[0]}" if files else ""
