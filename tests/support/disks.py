"""A disk that is full, without one."""

import resource
from contextlib import contextmanager


@contextmanager
def files_up_to(size):
    """No file of this process may grow beyond a size: the system refuses the write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
