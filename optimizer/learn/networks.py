"""The Q-networks in PyTorch, for training; `agent` runs the same weights in NumPy."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..agent.paper_agent import EMBEDDING, layer_widths
from ..agent.set_agent import ENCODER_WIDTHS, HEAD_WIDTHS


class PaperNetwork(nn.Module):
    """The paper's network, Fig. 6: embedded indicators, flattened state, dense layers.

    Args:
        places: number of users that the state has room for, P.
    """

    def __init__(self, places: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(*EMBEDDING)
        self.layers = linear(layer_widths(places))

    def forward(self, state: Mapping[str, Tensor]) -> Tensor:
        """Q of deny and grant, shape (M, 2).

        Args:
            state: `PaperState` in the network's units: users (M, P, 3), status (M, P) and system (M, 6).
        """
        local = torch.cat([state["users"], self.embedding(state["status"])], dim=2)
        return dense(self.layers, torch.cat([local.flatten(1), state["system"]], dim=1))


class SetNetwork(nn.Module):
    """Our network: one encoder for all users, averaged over those pending and over those granted.

    So it takes any number of users. Granting pays its reward at once, and that reward is known: the rise. The network
    adds what follows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = linear(ENCODER_WIDTHS), linear(HEAD_WIDTHS)

    def forward(self, state: Mapping[str, Tensor]) -> Tensor:
        """Q of deny and grant, shape (M, 2).

        Args:
            state: gains of all users (M, P, knots), pending and granted as 0 and 1 (M, P), gains of the current user
                (M, knots), rise (M,) and features of the round (M, GLOBALS).
        """
        seen = (state["pending"] + state["granted"]) > 0
        gains, row = state["gains"][seen], seen.nonzero()[:, 0]
        encoded = torch.cat([gains, dense(self.encoder, gains).relu()], dim=1)
        pools = [_means(encoded, row, state[name][seen], len(seen)) for name in ("pending", "granted")]
        rise = state["rise"][:, None]
        inputs = torch.cat([state["current"], rise.asinh(), *pools, state["features"]], dim=1)
        value, more = dense(self.head, inputs).chunk(2, dim=1)
        return torch.cat([value, value + more + rise], dim=1)


def linear(widths: Sequence[int]) -> nn.ModuleList:
    """Untrained linear layers of these widths, inputs and outputs included."""
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))


def dense(layers: Any, x: Tensor) -> Tensor:
    """The outputs of linear layers with ReLU between them."""
    for layer in layers[:-1]:
        x = layer(x).relu()
    result: Tensor = layers[-1](x)
    return result


def _means(encoded: Tensor, row: Tensor, mask: Tensor, rows: int) -> Tensor:
    """The mean encoding over some of the users of each row, 0 over none; shape (rows, width).

    Args:
        encoded: encodings of users, shape (users, width).
        row: number of each user's row, shape (users,).
        mask: 1 for the users that count, else 0, shape (users,).
        rows: number of rows.
    """
    sums = torch.zeros(rows, encoded.shape[1]).index_add(0, row, encoded * mask[:, None])
    counts = torch.zeros(rows).index_add(0, row, mask)
    return sums / counts.clamp(min=1)[:, None]
