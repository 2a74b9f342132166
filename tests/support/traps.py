"""Pickles that show whether somebody reads them."""

import pickle
from pathlib import Path


class Trap:
    """A pickle that makes a file when somebody reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def trap_bytes(path):
    """The bytes of a pickle that makes a file at this path when somebody reads it."""
    return pickle.dumps(Trap(path))
