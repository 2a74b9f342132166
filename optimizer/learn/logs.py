"""TensorBoard logs of a training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Log = Callable[[str, float, int], None]
"""Takes name, value and learning steps of a quantity."""


@contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[int], Log]]:
    """Open TensorBoard logs in a folder, and close them in the end.

    Yields:
        function that starts a log from the number of learning steps done already: what an interrupted training logged
        beyond them does not count.
    """
    from torch.utils.tensorboard import SummaryWriter

    writers = []

    def start(done: int) -> Log:
        writers.append(SummaryWriter(str(folder), purge_step=done + 1 if done else None))
        add: Log = writers[-1].add_scalar
        return add

    try:
        yield start
    finally:
        for writer in writers:
            writer.close()
