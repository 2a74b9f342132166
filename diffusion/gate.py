"""The quality gate of fine-tuning: how much a model's samples look like the photos of its subject.

Similarity is the mean cosine between CLIP's image features of samples and photos (CLIP-I of the DreamBooth paper,
arXiv 2208.12242, section 4.1).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import data
from ..common.errors import InputError, shown

REAL_CLIP = "ViT-B-32/openai"


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
        """Square pictures as the tower takes them: scaled with antialiasing, as PIL does it, and normalised."""
        size = (self.side, self.side)
        scaled = functional.interpolate(images.float(), size=size, mode=self.interpolation, antialias=True)
        return (scaled.clamp(0, 1) - self.mean[:, None, None]) / self.std[:, None, None]


def load_image_encoder(reference: str, device: str = "cpu") -> ImageEncoder:
    """Load an open_clip model, NAME/PRETRAINED or a folder with its configuration and safetensors weights.

    Raises:
        InputError: where it cannot be had.
    """
    import open_clip

    folder = Path(reference)
    name, _, weights = (f"local-dir:{folder}", "", "") if folder.is_dir() else reference.partition("/")
    try:
        clip = open_clip.create_model(name, pretrained=weights or None, device=device).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"CLIP {shown(reference)}: cannot load ({reason}); name an open_clip model as NAME/PRETRAINED that this "
            "machine can download, or a folder with its open_clip_config.json and open_clip_model.safetensors"
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


def similarity(samples: Tensor, photos: Tensor) -> float:
    """Mean cosine of the features of samples (b, width) and photos (p, width)."""
    return float((samples @ photos.T).mean())
