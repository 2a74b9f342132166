"""What is said of an installation that lacks something."""

import sys
from types import SimpleNamespace

import pytest

from edgesplit.common import errors
from edgesplit.common.errors import InputError, nearest, require


def test_a_missing_module_is_named_with_what_to_install():
    with pytest.raises(InputError, match=r"needs the module 'nosuch', .*: pip install 'edgesplit\[train\]'"):
        require("train", "json", "nosuch")
    require("train", "json")


def test_models_are_refused_where_python_has_dropped_docstrings(monkeypatch):
    monkeypatch.setattr(errors, "sys", SimpleNamespace(flags=SimpleNamespace(optimize=2)))
    with pytest.raises(InputError, match=r"PYTHONOPTIMIZE: found 2 .*, accepted: 0 or 1"):
        require("models", "json")
    require("train", "json")
    assert sys.flags.optimize < 2


def test_many_known_words_are_not_all_named_where_something_lists_them():
    known = [f"word-{letter * 9}" for letter in "abcdefghij"]
    assert nearest("xyz", known, "`list` shows all") == "`list` shows all"
    assert nearest("xyz", known[:2], "`list` shows all") == "known: word-aaaaaaaaa, word-bbbbbbbbb"
    assert nearest("word-aaaaaaaab", known, "`list` shows all") == "did you mean 'word-aaaaaaaaa'?"
