"""Parameter files by name or by path; wherever a command asks for one, both serve."""

from pathlib import Path

from .. import data
from ..common.errors import InputError, nearest, shown
from ..common.files import read_record
from .names import matching
from .schemas import LatencyProfile, PaiCurveFile


def load_profile(reference: str, beside: Path | None = None) -> LatencyProfile:
    """A latency profile by its name ("RTX 4090", "rtx-4090", "NVIDIA GeForce RTX 4090") or path.

    Args:
        reference: name or path.
        beside: folder that a relative path starts from, such as that of the file which holds the reference; None for
            the working directory.

    Raises:
        InputError: for an unknown name, naming the nearest one, or a file that is not a profile.
    """
    return read_record(_find("profiles", "latency profile", reference, beside), LatencyProfile)


def load_curve(reference: str, beside: Path | None = None) -> PaiCurveFile:
    """A PAI curve by its name ("paper") or path; arguments and errors are those of `load_profile`."""
    return read_record(_find("pai", "PAI curve", reference, beside), PaiCurveFile)


def own_folder(kind: str) -> Path:
    """The folder of the user's own parameter files of a kind, inside the platform's folder for user data."""
    from platformdirs import user_data_path

    return user_data_path("edgesplit", appauthor=False) / kind


def own(kind: str) -> dict[str, Path]:
    """The user's own parameter files of a kind: name -> path; each takes the place of a shipped file of its name."""
    return {path.stem: path for path in sorted(own_folder(kind).glob("*.json"))}


def shadowing(kind: str, reference: str, beside: Path | None = None) -> Path | None:
    """The user's own file that a reference means although a file of that name ships, or None.

    Args:
        kind: folder of the files, "profiles" or "pai".
        reference: name or path, as in `load_profile`.
        beside: folder that a relative path starts from.
    """
    path = _find(kind, kind, reference, beside)
    return path if path.parent == own_folder(kind) and path.stem in data.shipped(kind) else None


def _find(kind: str, what: str, reference: str, beside: Path | None) -> Path:
    known = data.shipped(kind) | own(kind)
    name = matching(reference, known)
    if name is not None:
        return known[name]
    if _looks_like_path(reference):
        return (beside or Path()) / reference
    hint = nearest(reference, known, "`hwprof list` shows all")
    raise InputError(f"{what}: found {shown(reference)}, accepted: a name or a path ending in .json; {hint}")


def _looks_like_path(reference: str) -> bool:
    return "/" in reference or "\\" in reference or reference.casefold().endswith(".json")
