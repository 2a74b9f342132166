"""edgesplit: who offloads how many denoising steps to an edge server, with the proven optimum beside every plan."""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "pyproject.toml").is_file():  # not installed: edgesplit.<folder> is the folder beside this one
    __path__.append(str(_CHECKOUT))
