"""What ships with edgesplit, by name: latency profiles, PAI curves, scenarios, sample users and prompts."""

from pathlib import Path

FOLDER = Path(__file__).parent


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
