"""Which room may import which: the table of CONTRIBUTING, held."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "common": (),
    "data": (),
    "fitting": ("common", "data"),
    "diffusion.inference": ("common", "data"),
    "diffusion.train": ("diffusion.inference",),
    "diffusion.toyworld": ("diffusion.inference", "diffusion.train"),
    "diffusion.toyworld.trainers": ("diffusion.toyworld",),
    "diffusion": ("diffusion.toyworld", "diffusion.train"),
    "profiler": ("diffusion.inference", "fitting"),
    "metrics": ("diffusion.inference", "fitting"),
    "optimizer.model": ("fitting",),
    "optimizer.inputs": ("optimizer.model",),
    "optimizer.methods": ("optimizer.model",),
    "optimizer.agent": ("optimizer.inputs", "optimizer.methods"),
    "optimizer.learn": ("optimizer.agent",),
    "optimizer": ("optimizer.agent", "optimizer.learn"),
    "clusters": ("diffusion", "metrics", "optimizer.inputs"),
    "service": ("optimizer", "diffusion.inference"),
    "service.learn": ("service",),
    "reports.basis": ("optimizer", "metrics", "profiler", "service"),
    "reports.exhibit": ("reports.basis",),
    "reports": ("reports.exhibit",),
}
"""Room -> rooms that it may import, and with them what those may import."""
TORCH = ("diffusion", "profiler", "metrics", "optimizer.learn", "service")
"""Rooms, and those below them, that may import torch."""
GYMNASIUM = ("optimizer.learn", "service.learn")
FOLDERS = (
    *("clusters", "common", "data", "fitting", "diffusion", "profiler", "metrics", "optimizer", "reports", "service"),
)
FILES = [path for room in FOLDERS for path in sorted((ROOT / room).rglob("*.py"))]


def room_of(module):
    """The room that a module is in: the longest name of a room that begins it."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in MAY_IMPORT), None)


def allowed(room):
    """All rooms that a room may import, itself among them."""
    rooms = {room}
    for other in MAY_IMPORT[room]:
        rooms |= allowed(other)
    return rooms


def imports(source, module):
    """Every module that the source of a module imports, ours without their `edgesplit.`."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("edgesplit.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(
                [*above, *((node.module or "").removeprefix("edgesplit.").split(".") if node.module else [])]
            )
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def violations(source, module):
    """What the source of a module imports and may not."""
    room, own = room_of(module), module.rpartition(".")[2]
    for name in imports(source, module):
        top, target = name.split(".")[0], room_of(name)
        if target and target not in allowed(room):
            yield f"{module} imports {name}"
        if top in ("torch", "gymnasium") and not room.startswith(TORCH if top == "torch" else GYMNASIUM):
            yield f"{module} imports {top}"
        if target and any(part.endswith("_command") for part in name.split(".")) and own != "cli":
            yield f"{module} imports the command module {name}"


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_room_imports_what_it_may_not(path):
    assert list(violations(path.read_text(encoding="utf-8"), module_of(path))) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from ..methods.exact import optimum", "optimizer.model.split"),
        ("from ..agent import decide", "optimizer.methods.exact"),
        ("import torch", "optimizer.agent.decide"),
        ("def f():\n    from torch import nn", "optimizer.agent.decide"),
        ("import gymnasium", "optimizer.agent.instances"),
        ("from .pai_sweep_command import run_sweep", "metrics.analysis"),
        ("from . import pai_sweep_command", "metrics.analysis"),
        ("from edgesplit.diffusion.train import loop", "metrics.sweep"),
        ("from ..optimizer.model.qoe import Plan", "fitting.latency"),
        ("from .plan_command import run_plan", "optimizer.planner"),
    ],
)
def test_a_wrong_arrow_is_found(source, module):
    assert list(violations(source, module))


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from ..model.qoe import Plan", "optimizer.methods.exact"),
        ("from .plan_command import run_plan", "optimizer.cli"),
        ("import torch", "optimizer.learn.dqn"),
        ("from ..diffusion.inference.models import Model", "metrics.sweep"),
        ("import numpy", "optimizer.agent.decide"),
    ],
)
def test_a_right_arrow_is_allowed(source, module):
    assert list(violations(source, module)) == []


def test_no_class_name_stands_for_two_things():
    places = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module_of(path))
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def lengths(path):
    """Lines of every function, its docstring apart, and the options of a command apart, each of which has a line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            options = len(node.args.args) if path.name == "cli.py" else 0
            yield node.end_lineno - node.lineno + 1 - docstring - options, node.name


def test_functions_stay_short():
    found = sorted(length for path in FILES for length in lengths(path))
    assert found[-1][0] <= 40, found[-5:]
    assert found[len(found) // 2][0] <= 8


FAMILY = re.compile(r"sdxl|sd3|stable.?diffusion.?(?:xl|3)|flux|pixart", re.IGNORECASE)
"""Names of families of models, but for the oldest, which everything began with."""


def test_no_family_is_named_outside_its_module():
    """Published measurements are of models by name; code is not."""
    rooms = [path for path in FILES if "families" not in path.parts and "fitting" not in path.parts]
    found = {path.relative_to(ROOT): FAMILY.findall(path.read_text()) for path in rooms}
    assert {path: names for path, names in found.items() if names} == {}
