"""Stacks of linear layers in NumPy, with weights under the names that PyTorch gives them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from ...common.arrays import Floats

Weights = Mapping[str, Floats]
"""Arrays of weights and biases by name."""
Shapes = dict[str, list[int]]
"""Shapes of such arrays by name."""


def layer_shapes(stack: str, widths: Sequence[int]) -> Shapes:
    """The shapes of a stack of linear layers.

    Args:
        stack: name of the stack.
        widths: numbers of inputs, of units of each hidden layer, and of outputs.
    """
    shapes: Shapes = {}
    for number, (a, b) in enumerate(pairwise(widths)):
        shapes |= {f"{stack}.{number}.weight": [b, a], f"{stack}.{number}.bias": [b]}
    return shapes


def relu(x: Floats) -> Floats:
    """max(x, 0)."""
    return np.maximum(x, 0)


def dense(weights: Weights, stack: str, x: Floats, between: Callable[[Floats], Floats] = relu) -> Floats:
    """The outputs of a stack of linear layers with a function, ReLU, between them; x has shape (..., inputs)."""
    number = 0
    while f"{stack}.{number}.weight" in weights:
        if number:
            x = between(x)
        x = x @ weights[f"{stack}.{number}.weight"].T + weights[f"{stack}.{number}.bias"]
        number += 1
    return x
