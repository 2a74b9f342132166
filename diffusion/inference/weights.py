"""Weights from safetensors files, never from a pickle: found, read, and checked before a network takes them.

Every parameter comes from a file. What is missing would be random numbers, and nobody would be told.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from .headers import SAFETENSORS
from .model_paths import PICKLES

LFS = b"version https://git-lfs"
"""What a file begins with that Git LFS has left in place of the real one."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch adds to names, at any place, of networks that were compiled or sharded."""
PREFIXES = ("module.", "model.", "ema_model.", "unet.", "text_encoder.", "text_model.", "vae.")
"""What other programs put before names."""
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names that diffusers gave an attention's weights before 2023."""
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Number formats of checkpoints for GPUs with little memory; fp16 and bf16 hold them exactly."""
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *FP8)
"""Number formats that weights may have in a file."""


@dataclass(frozen=True)
class Placement:
    """Where the weights of a network shall be.

    Attributes:
        device: device, such as "cpu" or "cuda:0".
        dtype: number format.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def of(self, network: Any) -> Any:
        """A network there, ready to be run and not to be trained."""
        network = network.to(self.device, self.dtype).eval().requires_grad_(False)
        convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
        return network.to(memory_format=torch.channels_last) if convolves else network  # up to half as fast again


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The files with the weights of one part of a model: one, or the shards that an index names.

    Where there is no file of the plain name, the one of a variant is taken, such as fp16.

    Args:
        folder: folder of the part.
        stem: name of the weights' file without its suffix.

    Raises:
        InputError: for a folder without weights in safetensors, or an index that names other files.
    """
    plain, index = folder / f"{stem}{SAFETENSORS}", folder / f"{stem}{SAFETENSORS}.index.json"
    if plain.is_file():
        return [plain]
    if index.is_file():
        return _shards(index)
    files = {variant: file for file in _names(folder) if (variant := _variant(file, stem))}
    if not files:
        raise InputError(f"{folder}: {_no_weights(folder, plain.name)}")
    variant = "fp16" if "fp16" in files else next(iter(files)) if len(files) == 1 else ""
    if not variant:
        raise InputError(
            f"{folder}: found variants {', '.join(files)}, accepted: one of them; rename it to {plain.name}"
        )
    chosen = folder / files[variant]
    return _shards(chosen) if chosen.suffix == ".json" else [chosen]


def _variant(name: str, stem: str) -> str:
    """The variant in the name of a weights' file or of its index, such as "fp16"; nothing for other files."""
    file = re.fullmatch(rf"{re.escape(stem)}\.(\w+)\.safetensors", name)
    index = re.fullmatch(rf"{re.escape(stem)}\.safetensors\.index\.(\w+)\.json", name)
    return (file or index or [""] * 2)[1]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.is_file())


def _no_weights(folder: Path, wanted: str) -> str:
    """What is wrong with a folder without the weights that are wanted."""
    names = _names(folder)
    if any(name.endswith(PICKLES) for name in names):
        return "found pickled weights, accepted: safetensors only; convert them first"
    others = [name for name in names if name.endswith(SAFETENSORS)]
    beside = f", but {', '.join(others[:3])}" if others else ""
    return f"found no {wanted}{beside}; name a folder with all parts of a model"


def _shards(index: Path) -> list[Path]:
    """The files that an index names: safetensors files beside it and nothing else."""
    try:
        shards = sorted(set(json.loads(read_text(index))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index}: not an index of weights; download or export the model again") from error
    for name in shards:
        if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]+\.safetensors", name):
            raise InputError(f"{index}: found the file {shown(name)}, accepted: {SAFETENSORS} files beside it")
        if not (index.parent / name).is_file():
            raise InputError(f"{index}: names {name}, which is not there; download or export the model again")
    if not shards:
        raise InputError(f"{index}: names no files; download or export the model again")
    return [index.parent / name for name in shards]


def read_tensors(files: Sequence[Path], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of one or several safetensors files, by their names there; the files are read as they are used.

    Args:
        files: the files.
        prefix: what the names of those that are wanted begin with; it is dropped.

    Raises:
        InputError: naming the file, for one that is not whole or repeats a name of another.
    """
    tensors: dict[str, Tensor] = {}
    for path in files:
        for name, tensor in _tensors(path, prefix):
            if name in tensors:
                raise InputError(f"{path}: weights {shown(name)} stand in another file as well; keep one of them")
            tensors[name] = tensor
    return tensors


def _tensors(path: Path, prefix: str) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if name.startswith(prefix):
                    yield name.removeprefix(prefix), file.get_tensor(name)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: cannot load: {_damage(path, error)}") from error


def _damage(path: Path, error: Exception) -> str:
    """What is wrong with a file that safetensors does not read."""
    try:
        with open(path, "rb") as file:
            begin = file.read(len(LFS))
    except OSError as unreadable:
        return f"cannot read: {reason_of(unreadable)}; name a readable file"
    if begin == LFS:
        return "found a pointer of Git LFS, not the weights; run `git lfs pull`, or download them"
    return f"not a whole safetensors file ({reason_of(error)}); download or export it again"


def fitting(
    place: object,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    owner: str = "its config.json",
    all_used: bool = True,
    placement: Placement = Placement(),
) -> dict[str, Tensor]:
    """The weights that a network takes, each of its names once, in place; prefixes of other programs are dropped.

    Args:
        place: file or folder that the tensors come from, for messages.
        tensors: tensors by the names in their files.
        expected: state of the network, for its names and shapes.
        owner: noun phrase for what expects them, for messages.
        all_used: whether tensors that the network has no place for are refused; if not, they are left out.
        placement: device and number format that they shall have.

    Raises:
        InputError: naming the first weights that are missing, unknown, of another shape, not finite, or beyond the
            number format.
    """
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if (plain := _plain(name, expected)) in own:
            raise InputError(f"{place}: found weights {shown(plain)} twice, once as {shown(name)}; keep one of them")
        own[plain] = tensor
    _check_complete(place, expected, own)
    if all_used:
        _check_all_used(place, expected, own, owner)
    _check_scales(place, expected, own)
    placed: dict[int, Tensor] = {}  # weights that stand under several names are there once
    for name, like in expected.items():
        if (key := id(own[name])) not in placed:
            placed[key] = _checked(f"{place}: {name}", own[name], like.shape, owner, placement)
    return {name: placed[id(own[name])] for name in expected}


def _plain(name: str, expected: Mapping[str, Any]) -> str:
    """The name that a network has for weights: without what other programs add to it."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    candidates = [name]
    while prefix := next((p for p in PREFIXES if candidates[-1].startswith(p)), ""):
        candidates.append(candidates[-1].removeprefix(prefix))
    candidates += [_renamed(candidates[-1]), f"text_model.{candidates[-1]}"]
    return next((plain for plain in candidates if plain in expected), name)


def _renamed(name: str) -> str:
    """A name of an attention's weights as diffusers writes it today."""
    *head, last, kind = name.split(".") if name.count(".") > 1 else ("", name, "")
    return ".".join([*head, OLD_ATTENTION.get(last, last), kind])


def _check_complete(place: object, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse weights that leave a parameter without a value.

    Raises:
        InputError: naming the first ones missing, and one that is not known.
    """
    missing = [name for name in expected if name not in found]
    if not missing:
        return
    unknown = [name for name in found if name not in expected]
    instead = f", and unknown weights such as {shown(unknown[0], 80)}" if unknown else ""
    raise InputError(
        f"{place}: found no weights for {len(missing)} of {len(expected)} parameters ({_first(missing)}){instead}; "
        "download or export the model again"
    )


def _check_all_used(place: object, expected: Mapping[str, Any], found: Mapping[str, Any], owner: str) -> None:
    """Refuse weights that a network has no place for.

    Raises:
        InputError: naming the first ones.
    """
    if unknown := [name for name in found if name not in expected]:
        raise InputError(
            f"{place}: found {len(unknown)} unknown weights ({_first(unknown)}), which {owner} has no place for; "
            "name a model whose parts belong together"
        )


def _check_scales(place: object, expected: Mapping[str, Any], found: Mapping[str, Tensor]) -> None:
    """Refuse fp8 weights with scales of their own, which are no plain numbers."""
    scales = [name for name in found if name not in expected and "scale" in name]
    if scales and any(tensor.dtype in FP8 for tensor in found.values()):
        raise InputError(f"{place}: found scaled fp8 weights ({_first(scales)}), accepted: plain ones; export it so")


def _first(names: Sequence[str]) -> str:
    return ", ".join(name[:80] for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _checked(place: str, tensor: Tensor, shape: Sequence[int], owner: str, placement: Placement) -> Tensor:
    """A tensor of the expected shape with finite numbers, in its place and in memory of its own."""
    if tensor.shape != shape:
        found, accepted = tuple(tensor.shape), tuple(shape)
        raise InputError(f"{place}: found shape {found}, which does not fit {owner}; accepted: {accepted}")
    if tensor.dtype not in NUMBERS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"{place}: found {kind} numbers, accepted: float16, bfloat16 or float32; export the model so")
    tensor = tensor.half() if tensor.dtype in FP8 else tensor  # which torch cannot compare
    check_finite(place, tensor)
    check_range(place, tensor, placement.dtype)
    return tensor.to(placement.device, placement.dtype, copy=True)


def check_finite(place: object, tensor: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: naming the place.
    """
    if not is_finite(tensor):
        raise InputError(f"{place}: found weights that are not finite (NaN or infinity); train or download it again")


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; the extremes tell it far faster than a look at every number."""
    return not tensor.numel() or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def check_range(place: object, tensor: Tensor, dtype: torch.dtype) -> None:
    """Refuse numbers that a number format cannot hold.

    Raises:
        InputError: naming the place.
    """
    if dtype != torch.float16 or tensor.dtype == dtype or not tensor.numel():  # the others reach as far as fp32
        return
    largest = torch.finfo(dtype).max
    if float(torch.stack(torch.aminmax(tensor)).abs().max()) > largest:
        raise InputError(f"{place}: found weights above {largest:g}, too large for fp16; use fp32 or bf16")
