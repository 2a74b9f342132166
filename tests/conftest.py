"""For all tests: a defect in a command is never one line, but the traceback that says where it is."""

import os

import pytest
from traps import trap_bytes

os.environ["EDGESPLIT_DEBUG"] = "1"


@pytest.fixture
def trap(tmp_path):
    """The bytes of a pickle that nobody reads in this test."""
    sprung = tmp_path / "sprung"
    yield trap_bytes(sprung)
    assert not sprung.exists()
