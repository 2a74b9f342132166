"""Attacks on the cohort file: whatever stands in it, it is read or refused in one line."""

import re

import numpy as np
import pytest
from damage import damaged

from edgesplit.common.errors import InputError
from edgesplit.diffusion.train.cohort import read_cohort

COHORT = """
base = "base"
sampling_steps = 2

[training]
steps = 4
batch_size = 2
learning_rate = 1e-3

[class]
images = 3

[gate]
clip = "clip"
samples = 2

[[users]]
name = "anna"
photos = "photos/anna"
"""
ODD = (
    "-1", "0", "1e400", "nan", "inf", "9" * 5000, "''", '"\\u0000"', '"\\u202eabc"', "true", "[]", "{}", "[[[]]]",
    "[" * 5000 + "]" * 5000, '"' + "x" * 5000 + '"', "1979-05-27", "'''a\nb'''", '"../../.."', "=",
)  # fmt: skip
"""Values that stand nowhere in a good file."""


def mutated(rng):
    """The file with some values, names or lines that are others; now and then other bytes."""
    if rng.random() < 0.3:
        return damaged(COHORT.encode(), rng)
    lines = COHORT.splitlines()
    for _ in range(rng.integers(1, 4)):
        place, kind = int(rng.integers(len(lines))), rng.integers(4)
        if kind == 0:
            del lines[place]
        elif kind == 1:
            lines.insert(int(rng.integers(len(lines))), lines[place])
        elif kind == 2:
            lines[place] = re.sub(r"^\w+", "unknown", lines[place])
        else:
            lines[place] = lines[place].partition("=")[0] + "= " + ODD[rng.integers(len(ODD))]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_mutated_cohort_file_is_read_or_refused_in_one_line(tmp_path, count):
    (tmp_path / "photos" / "anna").mkdir(parents=True)
    path, refused = tmp_path / "cohort.toml", 0
    for seed in range(count):
        path.write_bytes(mutated(np.random.default_rng([41, seed])))
        try:
            read_cohort(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > count // 4
