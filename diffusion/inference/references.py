"""Which models a command runs, and on which device: what the options `--cluster`, `--user`, `--cohort`, `--device` say.

Nothing here loads a model.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ... import data
from ...common.errors import InputError, shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The names that a user may have."""
MODULES = ("torch", "diffusers", "transformers", "accelerate", "peft", "open_clip")
"""The modules that every command with models needs; they come with the extra `models`."""


def pick_device(name: str) -> str:
    """The device to run on: "cpu" or "cuda:NUMBER"; for an empty name the first GPU, if there is one.

    Raises:
        InputError: for a device that is not there.
    """
    import torch

    if not name:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind != "cuda" or not (index or "0").isdecimal():
        raise InputError(f"--device: found {shown(name)}, accepted: cpu, cuda or cuda:NUMBER")
    if int(index or 0) >= count:
        raise InputError(f"--device: found {name}, but {count} NVIDIA GPUs are usable here; use --device cpu")
    return f"cuda:{index or 0}"


def model_references(cluster: str | None, users: Sequence[str], cohort: Path | None) -> tuple[str, dict[str, str]]:
    """The cluster-wide model and the users' models that the options name; the toy world's if they name none.

    Args:
        cluster: value of `--cluster`, a folder or a hub id.
        users: value of every `--user`, NAME=MODEL.
        cohort: value of `--cohort`, a folder that `dreambooth` wrote.

    Returns:
        the reference of the cluster-wide model, and user -> reference of the personal model.

    Raises:
        InputError: for options that do not go together.
    """
    if cluster and cohort:
        raise InputError("--cluster: found --cohort as well, accepted: one of the two")
    if cluster:
        if not users:
            raise InputError("--cluster: found no --user, accepted: one NAME=MODEL or more")
        return cluster, named("--user", users)
    if users:
        raise InputError("--user: found no --cluster, accepted: both, or --cohort FOLDER alone")
    return cohort_models(cohort or data.FOLDER / "toyworld")


def cohort_models(folder: Path) -> tuple[str, dict[str, str]]:
    """The models in a folder that `dreambooth` wrote: the cluster-wide one, and user -> personal one.

    Raises:
        InputError: for a folder without them.
    """
    users = {path.name: str(path) for path in sorted((folder / "users").glob("*")) if not path.name.startswith(".")}
    if not (folder / "cluster").is_dir() or not users:
        raise InputError(f"{folder}: found no finished cohort, accepted: a folder that dreambooth wrote")
    return str(folder / "cluster"), users


def named(option: str, texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts as a dictionary.

    Raises:
        InputError: for a text of another form, or a name that stands twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not NAME.fullmatch(name) or not value or name in pairs:
            raise InputError(
                f"{option}: found {shown(text)}, accepted: NAME=VALUE, each name once, of letters, "
                "digits, dots, - and _"
            )
        pairs[name] = value
    return pairs
