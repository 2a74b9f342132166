"""The largest batch that fits into memory."""

from collections.abc import Callable


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
    """The largest batch that fits: doubling until one does not, then bisection.

    Args:
        fits: function that tries a batch and frees its memory; larger batches fit only where smaller ones do.
        limit: largest batch to try.

    Returns:
        0 where not even one image fits.
    """
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
