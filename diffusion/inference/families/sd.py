"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, whose last states a UNet attends to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..schedules import of_stable_diffusion
from .base import (
    CLIP_TEXT,
    CLIP_TOKENS,
    UNET,
    VAE,
    Conditions,
    Model,
    Part,
    size_faults,
    width_fault,
)

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = 77
"""Tokens of a prompt."""
OLD_SIDE = 64
"""Side of the latents of models that diffusers below 0.9 saved with a smaller one by mistake."""
DOWN_BLOCKS = 4
"""Blocks on the way down of a UNet whose configuration does not say."""


@dataclass(frozen=True, kw_only=True)
class StableDiffusion(Model):
    """Stable Diffusion 1.x and 2.x.

    Attributes:
        unet: network that predicts the noise or its velocity.
        text_encoder: network that turns tokens into embeddings.
        tokenizer: what turns prompts into tokens.
    """

    unet: Any
    text_encoder: Any
    tokenizer: Any

    KIND = "Stable Diffusion 1.x or 2.x"
    PIPELINES = ("StableDiffusionPipeline",)
    PARTS: ClassVar[Mapping[str, Part]] = {
        "unet": UNET,
        "vae": VAE,
        "text_encoder": CLIP_TEXT,
        "tokenizer": CLIP_TOKENS,
    }
    NETWORK = "unet"
    SIDE = 64

    @classmethod
    def words_of_scheduler(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """As its pipeline in diffusers corrects them."""
        return of_stable_diffusion(config)

    @classmethod
    def mended(cls, part: str, config: dict[str, Any]) -> dict[str, Any]:
        """A UNet with the side that its pipeline takes where an old version wrote a wrong one."""
        side, version = config.get("sample_size"), str(config.get("_diffusers_version", "1")).split(".")
        old = version[0] == "0" and len(version) > 1 and version[1].isdecimal() and int(version[1]) < 9
        wrong = part == "unet" and old and type(side) is int and side < OLD_SIDE
        return config | {"sample_size": OLD_SIDE} if wrong else config

    def encode(self, prompts: Sequence[str]) -> Conditions:
        """The text encoder's last states, shape (prompts, tokens, width)."""
        return {"text": self.text_encoder(self.padded("tokenizer", prompts).input_ids)[0]}

    @staticmethod
    def predict(network: Any, x: "Tensor", t: "Tensor", conditions: Conditions) -> "Tensor":
        """One pass of the UNet."""
        prediction: Tensor = network(x, t, encoder_hidden_states=conditions["text"], return_dict=False)[0]
        return prediction

    def network_faults(self) -> Iterator[tuple[str, str, str]]:
        """Latents and conditions of other sizes than the other parts make."""
        unet, vae, text = self.unet.config, self.vae.config, self.text_encoder.config
        yield from unet_faults(unet, vae)
        yield from width_fault(
            "unet.cross_attention_dim", unet.cross_attention_dim, text.hidden_size, "its text encoder's"
        )

    @classmethod
    def takes(cls, config: Mapping[str, Any]) -> bool:
        """UNets that are told a text alone."""
        return config.get("addition_embed_type") is None and takes_text(config)

    @classmethod
    def side_step(cls, config: Mapping[str, Any]) -> int:
        """A UNet's blocks halve the sides evenly."""
        return unet_side_step(config)

    @classmethod
    def drawn_conditions(
        cls,
        config: Mapping[str, Any],
        rows: int,
        size: tuple[int, int],  # noqa: ARG003
        place: Mapping[str, Any],
    ) -> Conditions:
        """Random states of the text encoder."""
        return {"text": drawn_text(config, rows, place)}


def takes_text(config: Mapping[str, Any]) -> bool:
    """Whether a UNet is told a text, no class and no picture; one for inpainting has more channels in than out."""
    told_more = config.get("class_embed_type") or config.get("encoder_hid_dim")
    channels = config.get("in_channels", 4), config.get("out_channels", 4)
    return "cross_attention_dim" in config and not told_more and channels[0] == channels[1]


def drawn_text(config: Mapping[str, Any], rows: int, place: Mapping[str, Any]) -> "Tensor":
    """Random states of text encoders, shape (rows, TOKENS, width)."""
    import torch

    width = config["cross_attention_dim"]  # of all blocks, or of each
    return torch.randn(rows, TOKENS, width if isinstance(width, int) else width[0], **place)


def unet_side_step(config: Mapping[str, Any]) -> int:
    """The number of which the latents' sides are multiples, so that every block of a UNet halves them evenly."""
    blocks = config.get("down_block_types")
    return 1 << max(0, (len(blocks) if isinstance(blocks, list) else DOWN_BLOCKS) - 1)


def unet_faults(unet: Any, vae: Any) -> Iterator[tuple[str, str, str]]:
    """Latents that a UNet and an autoencoder cannot share."""
    yield from size_faults("unet", unet.sample_size)
    channels = (unet.in_channels, unet.out_channels, vae.latent_channels)
    if len(set(channels)) > 1:
        yield "unet", f"{channels[0]} channels in and {channels[1]} out", f"as many as its vae has, {channels[2]}"
