"""One run at a time: a lock on a result, which the system releases even where a run is killed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError
from .files import make_folder


@contextmanager
def only_run(path: Path, command: str) -> Iterator[None]:
    """Keep other runs of a command out of a result while this one works on it.

    Args:
        path: folder or file that the run writes.
        command: name of the command, for the message.

    Raises:
        InputError: where another run is at work, or the place cannot be written.
    """
    make_folder(path.parent)
    file = path.with_name(f".{path.name}.lock")
    handle = _locked(file, path, command)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is locked, so that nobody's new one is removed
        os.close(handle)


def _locked(file: Path, path: Path, command: str) -> int:
    """The descriptor of the lock's file, once it is locked and still the one of that name."""
    while True:
        try:
            handle = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"{path}: cannot write here: {error.strerror}; choose another place with -o") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise InputError(
                f"{path}: another {command} is at work here; wait for it or choose another place with -o"
            ) from error
        if _is_file(handle, file):
            return handle
        os.close(handle)  # another run has removed it in between: take the new one


def _is_file(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except OSError:
        return False
