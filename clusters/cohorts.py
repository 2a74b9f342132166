"""Users with photos, and the cohort file of each cluster, which `dreambooth` trains."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..common.errors import InputError, reason_of, shown
from ..common.files import first_problem, whole_file
from ..diffusion.inference.references import NAME
from ..diffusion.train.cohort import CLUSTER, TOY, Cohort, CohortFile, read_cohort
from ..metrics.settings import REAL_CLIP
from .tables import relative

BASE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""The base of users whose photos lie in a folder, unless an option names another."""


def read_members(path: Path, changes: dict[str, str]) -> CohortFile:
    """The users of a cohort file, or of a folder that holds a folder of photos for each.

    Args:
        path: the file or folder.
        changes: fields of the cohort that options set: `base`, `class_word`.

    Raises:
        InputError: one line naming the path and what is wrong there.
    """
    if path.is_dir():
        content: dict[str, Any] = {"base": BASE, "users": list(_folders(path))}
        file = path / "cohort.toml"
    else:
        file = path
        content = read_cohort(path).cohort.model_dump(by_alias=True, exclude_unset=True)
    try:
        return CohortFile(file, Cohort.model_validate(content | changes))
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error, Cohort)}") from error


def _folders(path: Path) -> Iterator[dict[str, str]]:
    """The users whose folders lie in a folder."""
    try:
        inner = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))
    except OSError as error:
        raise InputError(f"{path}: cannot read: {reason_of(error)}; name a folder") from error
    if not inner:
        raise InputError(f"{path}: found no folders in it, accepted: a folder of photos for each user, by their names")
    for folder in inner:
        if not NAME.fullmatch(folder.name) or folder.name == CLUSTER:
            raise InputError(
                f"{path}: found the folder {shown(folder.name)}, accepted: a user's name of letters, digits, dots, - "
                f"and _, other than {CLUSTER!r}; rename it"
            )
        yield {"name": folder.name, "photos": folder.name}


def clip_of(file: CohortFile) -> str:
    """The CLIP that compares photos where no option names one: that of the gate, else the one of `pai-sweep`."""
    return file.clip_reference if file.cohort.gate.clip or file.cohort.base == TOY else REAL_CLIP


def cohort_of(file: CohortFile, users: Sequence[str], folder: Path) -> dict[str, Any]:
    """The cohort of some of the users, as a file in another folder says it.

    Raises:
        InputError: where nothing is left for the cluster-wide model to learn from.
    """
    source = file.cohort.cluster
    if source.shared is not None and not {*source.shared} & {*users} and not source.photos + source.generated:
        raise InputError(
            f"{file.path}: field 'cluster.shared': found none of {', '.join(users)}, who are one cluster, accepted: "
            "one of them, or photos or generated images for all cluster-wide models"
        )
    content = content_of(file.cohort)
    content["base"] = _from(file, file.cohort.base, folder)
    content["users"] = [_user(file, user, folder) for user in content["users"] if user["name"] in users]
    shared = content.get("cluster", {})
    if "shared" in shared:
        shared["shared"] = [name for name in shared["shared"] if name in users]
    if "photos" in shared:
        shared["photos"] = [relative(file.folder / photos, folder) for photos in shared["photos"]]
    if file.cohort.gate.clip:
        content["gate"]["clip"] = _from(file, file.cohort.gate.clip, folder)
    return content


def content_of(cohort: Cohort) -> dict[str, Any]:
    """What a cohort's file says: the fields that were set."""
    return cohort.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


def _from(file: CohortFile, reference: str, folder: Path) -> str:
    """A model beside the old file as the new one names it; a hub id or a shipped name as it is."""
    beside = file.folder / reference
    return relative(beside, folder) if reference != TOY and beside.exists() else reference


def _user(file: CohortFile, user: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {**user, "photos": relative(file.folder / user["photos"], folder)}


def write_cohort(path: Path, content: Mapping[str, Any], comment: str) -> None:
    """Write a cohort file.

    Raises:
        InputError: where it cannot be written.
    """
    with whole_file(path) as handle:
        handle.write(f"# {comment}\n" + "\n".join(_toml(content)) + "\n")


def _toml(content: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The lines of a table in TOML: first its own values, then the tables in it."""
    for key, value in content.items():
        if not _is_table(value):
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
    for key, value in content.items():
        if _is_table(value):
            heading = f"[[{above}{key}]]" if isinstance(value, list) else f"[{above}{key}]"
            for table in value if isinstance(value, list) else [value]:
                yield from ("", heading, *_toml(table, f"{above}{key}."))


def _is_table(value: Any) -> bool:
    """Whether a value is a table, or a list of them."""
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
