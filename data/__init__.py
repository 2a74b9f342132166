"""What ships with edgesplit, by name: latency profiles, PAI curves, scenarios, sample users and prompts."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def shipped(kind: str) -> dict[str, Path]:
    """The shipped parameter files of a kind.

    Args:
        kind: a folder of `data`: "profiles", "pai" or "scenarios".

    Returns:
        name -> path, in alphabetical order.
    """
    return {path.stem: path for path in sorted((FOLDER / kind).glob("*.json"))}


def sample(name: str) -> Path:
    """The path of a sample input, such as "users.csv" or "prompts.txt"."""
    return FOLDER / name


def located(reference: str) -> str:
    """The place of a shipped model such as "toyworld/clip"; any other reference as it is."""
    here = FOLDER / reference
    return str(here) if reference.startswith("toyworld/") and here.is_dir() else reference


def portable(reference: str) -> str:
    """The other way round: a shipped model's folder by its name below `data`, the same on every machine."""
    path = Path(reference)
    return path.relative_to(FOLDER).as_posix() if FOLDER in path.parents else reference
