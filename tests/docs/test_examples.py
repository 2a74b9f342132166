"""The examples run, each from a small size, as a reader starts them."""

import runpy
import sys

import pytest
from documents import ROOT

EXAMPLES = {
    "own_method.py": ["3"],
    "own_rule.py": ["5"],
    "own_numbers.py": [],
    "our_readings.py": ["4"],
    "gym_agent.py": ["1"],
}
PRINTED = {
    "own_method.py": "slowest first",
    "own_rule.py": "crowded",
    "own_numbers.py": "all local",
    "our_readings.py": "sign left out",
    "gym_agent.py": "captured",
}


def test_no_example_is_forgotten():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *EXAMPLES[name]])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert PRINTED[name] in capsys.readouterr().out
