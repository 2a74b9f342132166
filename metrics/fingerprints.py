"""What can be told of a model from its folder, before it is loaded: its kind, its base, and which training it is."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from .. import data
from ..common.files import read_text

ENDS = 1 << 16
"""Bytes of the start and the end of a file of weights that are read; they tell one training from another."""
TOY_LATENT_SIDE = 32
"""Latents narrower than this are a toy model's; those of Stable Diffusion have 64 or 96."""


def is_toy(cluster: str) -> bool:
    """Whether a cluster-wide model's pictures are as small as the toy world's, which real metrics cannot judge."""
    config = Path(base_of(cluster) or cluster) / "unet" / "config.json"
    try:
        side = json.loads(read_text(config))["sample_size"] if config.is_file() else None
    except (ValueError, TypeError, KeyError):  # loading the model says what is wrong with it
        return False
    return isinstance(side, int) and side < TOY_LATENT_SIDE


def base_of(reference: str) -> str | None:
    """The base of a folder with a LoRA; None for another model."""
    from ..diffusion.inference.references import read_settings

    base = read_settings(Path(reference)).get("base")
    if not base:
        return None
    beside = (Path(reference) / base).resolve()
    return str(beside) if beside.is_dir() else data.located(base)


def fingerprints(cluster: str, users: Mapping[str, str], clip: str, lpips: str) -> dict[str, str]:
    """The fingerprints of all models and metrics of a sweep.

    Args:
        cluster: reference of the cluster-wide model.
        users: user -> reference of the personal model.
        clip: reference of the CLIP model.
        lpips: backbone of LPIPS.

    Returns:
        "cluster", "clip", "lpips" and "users.NAME" -> fingerprint.
    """
    backbone = str(data.FOLDER / "toyworld" / "lpips") if lpips == "toyworld" else lpips
    references = {"cluster": cluster, "clip": data.located(clip), "lpips": backbone}
    references |= {f"users.{name}": reference for name, reference in users.items()}
    return {name: fingerprint(reference) for name, reference in references.items()}


def fingerprint(reference: str) -> str:
    """What tells one training of a model from another: a digest of name, size, start and end of all its weights' files.

    A LoRA's fingerprint changes with its base. The fingerprint of a hub id, or of a name that is no folder, is the
    reference itself.
    """
    folder = Path(reference)
    if not folder.is_dir():
        return reference
    base = base_of(reference)
    digest = hashlib.sha256(fingerprint(base).encode() if base else b"")
    for path in sorted(folder.rglob("*.safetensors")):
        with open(path, "rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)} {size}".encode() + file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    return digest.hexdigest()[:16]
