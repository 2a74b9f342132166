"""The record beside a finished model: what it was trained with and how it was judged."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ...common.errors import InputError, shown
from ...common.files import read_text, whole_file
from .photos import Photos

RECORD = "gate.json"
NOT_VALUES = {
    "base": "a base of other weights",
    "scheduler": "another scheduler_config.json of the base",
    "photos": "other photos or captions",
    "prior": "other class images",
}
"""Settings that are stored as a digest, in words for a message."""
ADDED = ("scheduler",)
"""Settings that records of earlier versions do not have."""


def stored_record(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The record of a model that was finished with these settings.

    Raises:
        InputError: for a folder without a readable record, or with one of other settings.
    """
    try:
        record = json.loads(read_text(folder / RECORD))
        stored, _ = dict(record["settings"]), (record["before"], record["after"])
    except (InputError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: found no readable {RECORD}; remove this folder to train it again") from error
    for key, value in settings.items():
        if key in ADDED and key not in stored:
            continue
        if stored.get(key) != value:
            was = NOT_VALUES.get(key) or f"{key} {shown(stored.get(key))}, and it is {shown(value)} now"
            raise InputError(f"{folder}: was trained with {was}; remove the folder or choose another output")
    complete: dict[str, Any] = {"judged_by": None} | record
    return complete


def store_record(folder: Path, settings: dict[str, Any], judged_by: dict[str, Any], gate: dict[str, Any]) -> None:
    """Write the record of a finished model.

    Args:
        folder: folder of the model.
        settings: everything that decides the model.
        judged_by: everything else that decides the gate.
        gate: the gate, as JSON can hold it.
    """
    write_json(folder / RECORD, {"settings": settings, "judged_by": judged_by, "clip": judged_by["clip"], **gate})


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    with whole_file(path) as handle:
        handle.write(json.dumps(value, indent=2) + "\n")


def photos_digest(photos: Photos) -> str:
    """A digest of pictures and their captions."""
    return digest([hashlib.sha256(photos.images.numpy().tobytes()).hexdigest(), photos.templates])


def digest(value: Any) -> str:
    """A digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
