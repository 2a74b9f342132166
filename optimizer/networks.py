"""The Q-networks, in PyTorch for training; `policies` runs the same weights in NumPy."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .policies import EMBEDDING, layer_widths


class FlatNetwork(nn.Module):
    """The paper's: embedded indicators, flattened state, dense layers.

    Args:
        places: users that the state has room for.
    """

    def __init__(self, places: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(*EMBEDDING)
        self.layers = linear(layer_widths("flat", places)["layers"])

    def forward(self, state: Mapping[str, Tensor]) -> Tensor:
        """Q of deny and grant, (M, 2), of a state with local (M, P, 3), status (M, P) and fixed (M, 6)."""
        seen = torch.cat([state["local"], self.embedding(state["status"])], dim=2)
        return dense(self.layers, torch.cat([seen.flatten(1), state["fixed"]], dim=1))


class SetNetwork(nn.Module):
    """One encoder for all users, pooled over those pending and over those granted: any number of users."""

    def __init__(self) -> None:
        super().__init__()
        widths = layer_widths("set", None)
        self.encoder, self.head = linear(widths["encoder"]), linear(widths["head"])

    def forward(self, state: Mapping[str, Tensor]) -> Tensor:
        """Q of deny and grant, (M, 2).

        Args:
            state: gains (M, P, knots), pending and granted (M, P) as 0 and 1, current (M, knots), fixed (M, globals).
        """
        gains = state["gains"]
        encoded = torch.cat([gains, dense(self.encoder, gains).relu()], dim=2)
        pools = [_mean(encoded, state[name]) for name in ("pending", "granted")]
        return dense(self.head, torch.cat([state["current"], *pools, state["fixed"]], dim=1))


def linear(widths: Sequence[int]) -> nn.ModuleList:
    """Linear layers of these widths."""
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))


def dense(layers: Any, x: Tensor) -> Tensor:
    """Linear layers with ReLU between them."""
    for layer in layers[:-1]:
        x = layer(x).relu()
    result: Tensor = layers[-1](x)
    return result


def _mean(encoded: Tensor, mask: Tensor) -> Tensor:
    """Mean over some of the users, 0 over none; (M, width)."""
    return (encoded * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
