"""What can be told of a model from its folder, before it is loaded: its kind, its base, and which training it is."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from .. import data
from ..common.errors import InputError
from ..common.files import read_text, whole_file
from ..diffusion.inference.references import base_of, family_at

KNOWN = ".digests.json"
"""The file beside the results that keeps digests of files, by their size and time of change."""
DECISIVE = (".safetensors", ".json", ".txt", ".model")
"""Suffixes of the files that decide what a model makes: weights, configurations, tokenizers."""
TOY_LATENT_SIDE = 32
"""Latents narrower than this are a toy model's; those of Stable Diffusion have 64 or 96."""


def is_toy(cluster: str) -> bool:
    """Whether a cluster-wide model is of the toy world's kind: its family, and pictures that real metrics cannot judge.

    Raises:
        InputError: for a model of no family.
    """
    if not _is_small(cluster):
        return False
    return family_at(cluster) is family_at(str(data.FOLDER / "toyworld" / "base"))


def _is_small(cluster: str) -> bool:
    """Whether a model's pictures are as small as the toy world's."""
    config = Path(base_of(cluster) or cluster) / "unet" / "config.json"
    try:
        side = json.loads(read_text(config))["sample_size"] if config.is_file() else None
    except (ValueError, TypeError, KeyError):  # loading the model says what is wrong with it
        return False
    return isinstance(side, int) and side < TOY_LATENT_SIDE


def fingerprints(
    cluster: str, users: Mapping[str, str], clip: str, lpips: str, kept: Path | None = None
) -> dict[str, str]:
    """The fingerprints of all models and metrics of a sweep.

    Args:
        cluster: reference of the cluster-wide model.
        users: user -> reference of the personal model.
        clip: reference of the CLIP model.
        lpips: backbone of LPIPS.
        kept: folder where digests of files are kept, so that the next run reads only what has changed; None for none.

    Returns:
        "cluster", "clip", "lpips" and "users.NAME" -> fingerprint.
    """
    backbone = str(data.FOLDER / "toyworld" / "lpips") if lpips == "toyworld" else lpips
    references = {"cluster": cluster, "clip": data.located(clip), "lpips": backbone}
    references |= {f"users.{name}": reference for name, reference in users.items()}
    digests = FileDigests(kept)
    prints = {name: fingerprint(reference, digests) for name, reference in references.items()}
    digests.keep()
    return prints


def fingerprint(reference: str, digests: "FileDigests | None" = None) -> str:
    """What tells a model from every other: a digest of all its weights, configurations and tokenizer files, whole.

    A LoRA's fingerprint changes with its base. The fingerprint of a hub id, or of a name that is neither folder nor
    file, is the reference itself.
    """
    folder, digests = Path(reference), digests or FileDigests(None)
    if folder.is_file():
        return digests.of(folder)[:16]
    if not folder.is_dir():
        return reference
    base = base_of(reference)
    digest = hashlib.sha256(fingerprint(base, digests).encode() if base else b"")
    for path in _decisive(folder):
        digest.update(f"{path.relative_to(folder).as_posix()} {digests.of(path)}\n".encode())
    return digest.hexdigest()[:16]


def _decisive(folder: Path) -> Iterator[Path]:
    """The files of a model that decide what it makes, in order; hidden ones are those of other programs."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in DECISIVE and not hidden and path.is_file():
            yield path


class FileDigests:
    """SHA-256 of whole files; those that have kept size and time of change since the last run are not read again."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / KNOWN if folder else None
        self._known: dict[str, list[object]] = _read_known(self._path) if self._path else {}
        self._seen: dict[str, list[object]] = {}

    def of(self, path: Path) -> str:
        """The digest of a file.

        Raises:
            InputError: for a file that cannot be read.
        """
        name = str(path.resolve())
        try:
            stat = path.stat()
            entry = self._known.get(name)
            if not entry or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
                with open(path, "rb") as file:
                    entry = [stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
        except OSError as error:
            raise InputError(f"{path}: cannot read: {error.strerror}; make it readable") from error
        self._seen[name] = entry
        return str(entry[2])

    def keep(self) -> None:
        """Write what is known now, where a folder was named and is there."""
        if self._path and self._path.parent.is_dir() and self._seen != self._known:
            with whole_file(self._path) as handle:
                handle.write(json.dumps(self._seen, indent=0) + "\n")


def _read_known(path: Path) -> dict[str, list[object]]:
    """The digests that an earlier run has kept; none where the file is missing or damaged, as they only save time."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, list) and len(entry) == 3}
