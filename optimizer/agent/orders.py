"""Orders in which the paper's agent takes the users of a round; the paper leaves them free. NumPy alone."""

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from .names import OrderName


def order_of(name: OrderName, step_latency_s: Floats, alpha: Floats, present: Bools, rng: np.random.Generator) -> Ints:
    """The places of the users of M rounds in the order of decision, empty places last; shape (M, P).

    Args:
        name: "file" as given, "random" drawn for each round, "slowest" the slowest device first, and of equal devices
            the smallest alpha; "mixed" for each round one of the last two, at random.
        step_latency_s: L_i(1), seconds, shape (M, P).
        alpha: alpha_i, seconds, shape (M, P).
        present: whether a place holds a user, shape (M, P).
        rng: source of random orders.
    """
    if name == "file":
        keys: tuple[np.ndarray, ...] = ()  # a stable sort
    else:
        drawn = np.zeros(present.shape) if name == "slowest" else rng.random(present.shape)
        if name == "mixed":
            drawn[rng.random(len(drawn)) < 0.5] = 0.0
        keys = alpha, -step_latency_s, drawn
    order: Ints = np.lexsort((*keys, ~present), axis=1)
    return order
