"""CLIP's image encoder, of an open_clip model: from the hub, or from a folder with safetensors weights."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from ...common.errors import InputError, reason_of, shown
from .hub import hub_file
from .model_paths import PICKLES
from .weights import check_finite

WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class ImageEncoder:
    """CLIP's image tower, and how it takes its pictures.

    Attributes:
        clip: an open_clip model.
        side: side of the pictures that it takes, in pixels.
        interpolation: how pictures are scaled to that side, "bicubic" or "bilinear".
        mean: mean of each colour, which is subtracted.
        std: standard deviation of each colour, by which is divided.
    """

    clip: Any
    side: int
    interpolation: str
    mean: Tensor
    std: Tensor

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Unit vectors, shape (b, width), of pictures of shape (b, 3, height, width) with values 0 to 1."""
        prepared = self.prepare(images).to(next(self.clip.parameters()).device)
        vectors: Tensor = self.clip.encode_image(prepared, normalize=True)
        return vectors.float().cpu()

    def prepare(self, images: Tensor) -> Tensor:
        """Square pictures as the tower takes them: scaled with antialiasing, as PIL does it, and normalised.

        The result is on the device of the pictures.
        """
        size = (self.side, self.side)
        scaled = functional.interpolate(images.float(), size=size, mode=self.interpolation, antialias=True)
        mean, std = (colour.to(scaled)[:, None, None] for colour in (self.mean, self.std))
        return (scaled.clamp(0, 1) - mean) / std


def load_image_encoder(reference: str, device: str = "cpu") -> ImageEncoder:
    """Load an open_clip model.

    Args:
        reference: NAME/PRETRAINED, or a folder with the model's configuration and safetensors weights.
        device: device to load it onto, such as "cpu" or "cuda:0".

    Raises:
        InputError: for a model that is not there, cannot be loaded, or has pickled weights, or NaN among them.
    """
    import open_clip

    how = _from_folder(Path(reference)) if Path(reference).is_dir() else _from_hub(reference)
    try:
        clip = open_clip.create_model(**how, device=device).eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(
            f"CLIP {shown(reference)}: cannot load ({reason_of(error)}); name an open_clip model as "
            f"NAME/PRETRAINED that this machine can download, or a folder with its open_clip_config.json and {WEIGHTS}"
        ) from error
    for name, weight in clip.named_parameters():
        check_finite(f"CLIP {shown(reference)}: {name}", weight.detach())
    side = clip.visual.image_size
    config = clip.visual.preprocess_cfg
    return ImageEncoder(
        clip=clip,
        side=side if isinstance(side, int) else side[0],
        interpolation=config.get("interpolation") or "bicubic",
        mean=torch.tensor(config["mean"]),
        std=torch.tensor(config["std"]),
    )


def _from_folder(folder: Path) -> dict[str, Any]:
    """Arguments of `create_model`, which without a safetensors file would take a pickle or random weights."""
    pickles = any(path.name.endswith(PICKLES) for path in folder.iterdir())  # which open_clip may prefer to others
    if not (folder / WEIGHTS).is_file() and (pickles or not any(folder.glob("*.safetensors"))):
        raise InputError(
            f"CLIP {folder}: found no safetensors weights, accepted: {WEIGHTS} beside "
            "open_clip_config.json (pickles are refused: they can run code)"
        )
    return {"model_name": f"local-dir:{folder}"}


def _from_hub(reference: str) -> dict[str, Any]:
    """Arguments of `create_model` for NAME/PRETRAINED; the weights are downloaded unless the cache has them."""
    import open_clip

    name, _, tag = reference.partition("/")
    card = open_clip.get_pretrained_cfg(name, tag)
    if not card.get("hf_hub"):
        raise InputError(
            f"CLIP {shown(reference)}: neither a folder here nor an open_clip model, accepted: such as ViT-B-32/openai"
        )
    repository, file = os.path.split(card["hf_hub"])
    weights = Path(file or WEIGHTS).with_suffix(".safetensors").name
    try:
        path = hub_file(repository, weights)
    except OSError as error:
        raise InputError(
            f"CLIP {shown(reference)}: cannot download ({reason_of(error, 60)}); put {weights} and "
            f"open_clip_config.json of {repository} on the hub into a folder, and name that folder"
        ) from error
    return {
        "model_name": name,
        "pretrained": str(path),
        "force_quick_gelu": bool(card.get("quick_gelu")),
        "force_preprocess_cfg": {key: card[key] for key in ("mean", "std", "interpolation") if key in card},
    }
