"""Attributes of dogs and scenes, as labels that the perceptual network and CLIP's image tower learn to recognise."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import world

ATTRIBUTES = {
    "fur": list(world.FURS),
    "second": list(world.FURS),
    "ears": list(world.EARS),
    "pattern": list(world.PATTERNS),
    "place": list(world.PLACES),
    "side": list(world.SIDES),
    "extra": list(world.EXTRAS),
}
"""What the pictures are labelled with: attribute of the dog or the scene -> its options."""


def labels(identities: Sequence[world.Identity], scenes: Sequence[world.Scene]) -> Tensor:
    """Index of the option of every attribute (`ATTRIBUTES`), shape (pictures, attributes)."""
    rows = [
        [options.index(value) for options, value in zip(ATTRIBUTES.values(), attributes(*pair).values(), strict=True)]
        for pair in zip(identities, scenes, strict=True)
    ]
    return torch.tensor(rows)


def attributes(dog: world.Identity, scene: world.Scene) -> dict[str, str]:
    """The value of every attribute, in the order of `ATTRIBUTES`."""
    return {
        "fur": dog.fur,
        "second": dog.second,
        "ears": dog.ears,
        "pattern": dog.pattern,
        "place": scene.place,
        "side": scene.side,
        "extra": scene.extra,
    }


class Heads(nn.Module):
    """One linear classifier per attribute on shared features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, sum(map(len, ATTRIBUTES.values())))

    def forward(self, features: Tensor) -> list[Tensor]:
        """Scores of every attribute's options, one tensor of shape (pictures, options) per attribute."""
        return list(self.linear(features).split([len(options) for options in ATTRIBUTES.values()], dim=1))


def label_loss(scores: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Sum of the cross entropies of all attributes."""
    losses = [functional.cross_entropy(score, target) for score, target in zip(scores, targets.T, strict=True)]
    return torch.stack(losses).sum()


def accuracies(scores: Sequence[Tensor], targets: Tensor) -> dict[str, float]:
    """Attribute -> share of the pictures in which it is recognised."""
    hits = [(score.argmax(1) == target).float().mean() for score, target in zip(scores, targets.T, strict=True)]
    return dict(zip(ATTRIBUTES, map(float, hits), strict=True))
