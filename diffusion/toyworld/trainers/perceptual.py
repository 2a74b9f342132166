"""The perceptual network behind the toy world's LPIPS."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....common.progress import Progress
from ...train.checkpoint import save_tensors
from ...train.loop import Recipe, train, warm_then_linear
from .. import world
from .labels import Heads, accuracies, label_loss, labels
from .networks import count, half
from .samples import HELD_OUT, HELD_OUT_SEED, PICTURES, PICTURES_SEED, Report, as_images

SIDE = 64
"""Side of the pictures that the network takes, in pixels."""


class Perceptual(nn.Module):
    """LPIPS' AlexNet with attribute classifiers on the means of its five layers."""

    def __init__(self) -> None:
        super().__init__()
        from lpips import ScalingLayer
        from lpips.pretrained_networks import alexnet

        self.scaling, self.net = ScalingLayer(), alexnet(requires_grad=True, pretrained=False)
        for module in self.net.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.heads = Heads(4 * (64 + 192 + 384 + 256 + 256))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Scores of every attribute's options, of images with values -1 to 1."""
        layers = self.net(self.scaling(functional.interpolate(images, size=SIDE, mode="bilinear")))
        scores: list[Tensor] = self.heads(
            torch.cat([functional.adaptive_avg_pool2d(layer, 2).flatten(1) for layer in layers], 1)
        )
        return scores


def train_perceptual(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """Train the backbone of LPIPS, to recognise the attributes of dogs and scenes."""
    torch.manual_seed(0)
    network = Perceptual()
    pixels, dogs, scenes = world.pictures(PICTURES, PICTURES_SEED)
    targets = labels(dogs, scenes)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (64,), generator=generator)
        return label_loss(network(as_images(pixels[chosen.numpy()])), targets[chosen])

    recipe = Recipe(
        modules={"network": network},
        loss=loss,
        steps=steps,
        learning_rates={"network": 8e-4},
        schedule=warm_then_linear(0.02, 0.0, 0.02),
        betas=(0.9, 0.999),
    )
    trained: Any = train(recipe, work / "perceptual.checkpoint.safetensors", accelerator, progress)["network"]
    held_out, dogs, scenes = world.pictures(HELD_OUT, HELD_OUT_SEED)
    with torch.no_grad():
        quality = accuracies(trained(as_images(held_out)), labels(dogs, scenes))
    (work / "lpips").mkdir(exist_ok=True)
    save_tensors(work / "lpips" / "alexnet.safetensors", half(trained.net), {})
    return {"accuracy": quality, "parameters": count(trained.net)}
