"""The Q-networks, in PyTorch for training; `policies` runs the same weights in NumPy."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..agent.policies import EMBEDDING, layer_widths


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
    """One encoder for all users, pooled over those pending and over those granted: any number of users.

    Granting pays its reward at once, and that is known: `rise`. The network adds what follows.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = layer_widths("set", None)
        self.encoder, self.head = linear(widths["encoder"]), linear(widths["head"])

    def forward(self, state: Mapping[str, Tensor]) -> Tensor:
        """Q of deny and grant, (M, 2).

        Args:
            state: gains (M, P, knots), pending and granted (M, P) as 0 and 1, current (M, knots), rise (M,), fixed
                (M, globals).
        """
        seen = (state["pending"] + state["granted"]) > 0
        gains, row = state["gains"][seen], seen.nonzero()[:, 0]
        encoded = torch.cat([gains, dense(self.encoder, gains).relu()], dim=1)
        pools = [_mean(encoded, row, state[name][seen], len(seen)) for name in ("pending", "granted")]
        rise = state["rise"][:, None]
        seen_now = torch.cat([state["current"], rise.asinh(), *pools, state["fixed"]], dim=1)
        value, more = dense(self.head, seen_now).chunk(2, dim=1)
        return torch.cat([value, value + more + rise], dim=1)


def linear(widths: Sequence[int]) -> nn.ModuleList:
    """Linear layers of these widths."""
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))


def dense(layers: Any, x: Tensor) -> Tensor:
    """Linear layers with ReLU between them."""
    for layer in layers[:-1]:
        x = layer(x).relu()
    result: Tensor = layers[-1](x)
    return result


def _mean(encoded: Tensor, row: Tensor, mask: Tensor, rows: int) -> Tensor:
    """Mean over some of the users of each row, 0 over none; (rows, width)."""
    sums = torch.zeros(rows, encoded.shape[1]).index_add(0, row, encoded * mask[:, None])
    counts = torch.zeros(rows).index_add(0, row, mask)
    return sums / counts.clamp(min=1)[:, None]
