"""Orders in which the paper's agent takes the users of a round; the paper leaves them free. NumPy alone."""

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from .names import OrderName


def order_of(name: OrderName, step_latency_s: Floats, alpha: Floats, present: Bools, rng: np.random.Generator) -> Ints:
    """The places of the users of M rounds in the order of decision, empty places last; shape (M, P).

    Args:
        name: "file" as given, "random" drawn for each round, "slowest" the slowest device first, and of equal devices
            the smallest alpha.
        step_latency_s: L_i(1), seconds, shape (M, P).
        alpha: alpha_i, seconds, shape (M, P).
        present: whether a place holds a user, shape (M, P).
        rng: source of random orders.
    """
    keys: tuple[np.ndarray, ...] = ()
    if name == "random":
        keys = (rng.random(present.shape),)
    if name == "slowest":
        keys = alpha, -step_latency_s
    order: Ints = np.lexsort((*keys, ~present), axis=1)
    return order
