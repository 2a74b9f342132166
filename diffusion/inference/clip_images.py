"""The quality gate of fine-tuning: how much a model's samples look like the photos of its subject.

Similarity is the mean cosine between CLIP's image features of samples and photos (CLIP-I of the DreamBooth paper,
arXiv 2208.12242, section 4.1).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from ... import data
from ...common.errors import InputError, shown
from .models import hub_file

REAL_CLIP = "ViT-B-32/openai"
WEIGHTS = "open_clip_model.safetensors"


def toy_clip() -> str:
    """The toy world's CLIP."""
    return str(data.FOLDER / "toyworld" / "clip")


@dataclass(frozen=True)
class ImageEncoder:
    """CLIP's picture tower.

    Attributes:
        clip: an open_clip model.
        side: pixels it takes.
        interpolation: how pictures are scaled to that, "bicubic" or "bilinear".
        mean: of each colour, subtracted.
        std: of each colour, divided by.
    """

    clip: Any
    side: int
    interpolation: str
    mean: Tensor
    std: Tensor

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Unit vectors of pictures (b, 3, height, width) with values 0 to 1, shape (b, width)."""
        prepared = self.prepare(images).to(next(self.clip.parameters()).device)
        seen: Tensor = self.clip.encode_image(prepared, normalize=True)
        return seen.float().cpu()

    def prepare(self, images: Tensor) -> Tensor:
        """Square pictures as the tower takes them: scaled with antialiasing, as PIL does it, and normalised.

        They stay on their device.
        """
        size = (self.side, self.side)
        scaled = functional.interpolate(images.float(), size=size, mode=self.interpolation, antialias=True)
        mean, std = (colour.to(scaled)[:, None, None] for colour in (self.mean, self.std))
        return (scaled.clamp(0, 1) - mean) / std


def load_image_encoder(reference: str, device: str = "cpu") -> ImageEncoder:
    """Load an open_clip model, NAME/PRETRAINED or a folder with its configuration and safetensors weights.

    Raises:
        InputError: where it cannot be had.
    """
    import open_clip

    how = _from_folder(Path(reference)) if Path(reference).is_dir() else _from_hub(reference)
    try:
        clip = open_clip.create_model(**how, device=device).eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"CLIP {shown(reference)}: cannot load ({reason}); name an open_clip model as NAME/PRETRAINED that this "
            f"machine can download, or a folder with its open_clip_config.json and {WEIGHTS}"
        ) from error
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
    """What `create_model` needs; it takes pickles and random weights where there is no safetensors file."""
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"CLIP {folder}: found no safetensors weights, accepted: {WEIGHTS} beside "
            "open_clip_config.json (pickles are refused: they can run code)"
        )
    return {"model_name": f"local-dir:{folder}"}


def _from_hub(reference: str) -> dict[str, Any]:
    """What `create_model` needs for NAME/PRETRAINED; its weights are downloaded if they are not there yet."""
    import open_clip

    name, _, tag = reference.partition("/")
    card = open_clip.get_pretrained_cfg(name, tag)
    if not card.get("hf_hub"):
        raise InputError(
            f"CLIP {shown(reference)}: neither a folder here nor an open_clip model, accepted: such as {REAL_CLIP}"
        )
    repository, file = os.path.split(card["hf_hub"])
    weights = Path(file or WEIGHTS).with_suffix(".safetensors").name
    try:
        path = hub_file(repository, weights)
    except OSError as error:
        raise InputError(
            f"CLIP {shown(reference)}: cannot download ({' '.join(str(error).split())[:60]}); put {weights} and "
            f"open_clip_config.json of {repository} on the hub into a folder, and name that folder"
        ) from error
    return {
        "model_name": name,
        "pretrained": str(path),
        "force_quick_gelu": bool(card.get("quick_gelu")),
        "force_preprocess_cfg": {key: card[key] for key in ("mean", "std", "interpolation") if key in card},
    }


def similarity(samples: Tensor, photos: Tensor) -> float:
    """Mean cosine of the features of samples (b, width) and photos (p, width)."""
    return float((samples @ photos.T).mean())
