"""CLIP similarity of pictures and texts (arXiv 2103.00020), with open_clip's models. No text is ever cut silently."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..common.errors import InputError, reason_of, shown
from ..common.files import read_text
from ..common.json_text import parse_json
from ..diffusion.inference.clip_images import ImageEncoder, load_image_encoder

PICTURES_AT_ONCE = 64
"""Most pictures in one pass of the image tower."""
LongTexts = Literal["refuse", "window"]


@dataclass(frozen=True)
class Clip:
    """Both towers of a CLIP model.

    Attributes:
        encoder: image tower, and how it takes its pictures.
        tokenizer: open_clip's tokenizer of the text tower.
        long_texts: what happens to a text with more tokens than the text tower reads: "refuse" it, or read it in
            parts ("window") and take the mean.
    """

    encoder: ImageEncoder
    tokenizer: Any
    long_texts: LongTexts = "refuse"
    _read: dict[str, Tensor] = field(default_factory=dict)

    def image_features(self, images: Tensor) -> Tensor:
        """Unit vectors, shape (b, width), of pictures of shape (b, 3, height, width) with values 0 to 1."""
        return torch.cat([self.encoder.features(part) for part in images.split(PICTURES_AT_ONCE)])

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts, shape (texts, width); each different text is encoded once in all calls.

        Raises:
            InputError: for a text that is too long, unless it is read in parts.
        """
        for text in texts:
            if text not in self._read:
                self._read[text] = self._encode(text)
        return torch.stack([self._read[text] for text in texts])

    @torch.inference_mode()
    def _encode(self, text: str) -> Tensor:
        """The unit vector of a text; of a long one the mean over its parts, scaled to length 1."""
        clip = self.encoder.clip
        ids = self.tokenizer(self._windows(text)).to(next(clip.parameters()).device)
        features: Tensor = clip.encode_text(ids, normalize=True).float().cpu()
        return functional.normalize(features.mean(dim=0), dim=0)

    def _windows(self, text: str) -> list[str]:
        most, count = self.tokenizer.context_length, token_count(self.tokenizer, text)
        if count <= most:
            return [text]
        if self.long_texts == "window":
            return list(windows(self.tokenizer, text))
        raise InputError(
            f"CLIP: {shown(text)}: found {count - 2} tokens, accepted: {most - 2} (nothing is cut silently); shorten "
            "it or give --long-prompts window"
        )


def similarity(image_features: Tensor, text_features: Tensor) -> Tensor:
    """CLIP(p_i, m_i), paper section 3.4.2: the cosine between each picture and its own text, shape (b,).

    Args:
        image_features: unit vectors of the pictures, shape (b, width).
        text_features: unit vectors of the texts, shape (b, width).
    """
    return (image_features * text_features).sum(dim=1)


def token_count(tokenizer: Any, text: str) -> int:
    """Number of tokens of the whole text, start and end included."""
    if hasattr(tokenizer, "tokenizer"):  # open_clip's wrapper of a Hugging Face tokenizer
        return len(tokenizer.tokenizer(tokenizer.clean_fn(text)).input_ids)
    return len(tokenizer.encode(text)) + 2


def windows(tokenizer: Any, text: str) -> Iterator[str]:
    """The text in parts that the tokenizer can read: split between words, or inside a longer word."""
    part: list[str] = []
    for word in chain.from_iterable(_pieces(tokenizer, word) for word in text.split()):
        if part and token_count(tokenizer, " ".join([*part, word])) > tokenizer.context_length:
            yield " ".join(part)
            part = []
        part.append(word)
    yield " ".join(part)


def _pieces(tokenizer: Any, word: str) -> Iterator[str]:
    """A word, halved until each piece can be read, as some scripts and some users do without spaces."""
    if len(word) == 1 or token_count(tokenizer, word) <= tokenizer.context_length:
        yield word
    else:
        middle = len(word) // 2
        yield from _pieces(tokenizer, word[:middle])
        yield from _pieces(tokenizer, word[middle:])


def load_clip(reference: str, device: str = "cpu", long_texts: LongTexts = "refuse") -> Clip:
    """Load an open_clip model.

    Args:
        reference: NAME/PRETRAINED, or a folder with configuration, safetensors weights and tokenizer.
        device: device to load it onto, such as "cpu" or "cuda:0".
        long_texts: as in `Clip`.

    Raises:
        InputError: for a model that cannot be had.
    """
    import open_clip

    encoder = load_image_encoder(reference, device)
    own = Path(reference).is_dir()
    name = f"local-dir:{reference}" if own else reference.partition("/")[0]
    try:
        options = _tokenizer_options(Path(reference)) if own else {}
        return Clip(encoder, open_clip.get_tokenizer(name, **options), long_texts)
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"CLIP {shown(reference)}: cannot load its tokenizer ({reason_of(error)}); put it into a folder"
        ) from error


def _tokenizer_options(folder: Path) -> dict[str, Any]:
    """Options of the tokenizer in a folder, before those in its configuration: none of Hugging Face's runs code."""
    config = parse_json(read_text(folder / "open_clip_config.json"))
    return {"trust_remote_code": False} if config["model_cfg"]["text_cfg"].get("hf_tokenizer_name") else {}
