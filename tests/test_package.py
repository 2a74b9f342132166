"""The package as installed."""

import importlib
import re
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "edgesplit")


def test_every_folder_with_code_is_a_listed_package():
    nested = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in ROOT.glob(f"{folder}/**/__init__.py")
    }
    assert sorted(["edgesplit", *(f"edgesplit.{name}" for name in nested)]) == sorted(
        PYPROJECT["tool"]["setuptools"]["packages"]
    )


def test_tests_run_against_the_installed_package():
    for folder in FOLDERS:
        module = importlib.import_module(f"edgesplit.{folder}")
        assert ROOT not in Path(module.__file__).parents or ".venv" in module.__file__
    assert version("edgesplit") == PYPROJECT["project"]["version"]


def test_no_second_copy_can_be_imported():
    for folder in FOLDERS:
        assert folder not in sys.modules
    banned = PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(FOLDERS) <= set(banned)


def test_every_installed_file_of_data_is_there():
    installed = Path(importlib.import_module("edgesplit.data").__file__).parent
    files = [path.relative_to(ROOT / "data") for path in (ROOT / "data").rglob("*.*") if path.suffix != ".pyc"]
    assert files
    assert [str(name) for name in files if not (installed / name).exists()] == []


def test_the_core_needs_no_torch():
    core = [line for line in requires("edgesplit") if "extra ==" not in line]
    assert not [line for line in core if re.match(r"torch|diffusers|transformers", line)]


@pytest.mark.parametrize("extra", ["models", "photos", "train", "ray", "bench", "docs", "test"])
def test_every_extra_is_pinned(extra):
    pins = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    wanted = PYPROJECT["project"]["optional-dependencies"][extra] + PYPROJECT["project"]["dependencies"]
    names = {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower().replace("_", "-") for line in wanted}
    assert names <= pins
