"""TensorBoard logs of a training."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...common.errors import InputError, reason_of

Log = Callable[[str, float, int], None]
"""Takes name, value and learning steps of a quantity."""


@contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[int], Log]]:
    """Open TensorBoard logs in a folder, and close them in the end.

    Yields:
        function that starts a log from the number of learning steps done already: what an interrupted training logged
        beyond them does not count.

    Raises:
        InputError: where they cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter

    with _one_line(folder), ExitStack() as writers:

        def start(done: int) -> Log:
            writer = SummaryWriter(str(folder), purge_step=done + 1 if done else None)
            writers.callback(writer.close)
            add: Log = writer.add_scalar
            return add

        yield start


@contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    """Tell in one line what cannot be written: it ends the writer's thread, and fails its next call."""
    before = threading.excepthook

    def look_at(failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):
            before(failed)

    threading.excepthook = look_at
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write: {reason_of(error)}; free some space, or choose another place with -o"
        ) from error
    finally:
        threading.excepthook = before
