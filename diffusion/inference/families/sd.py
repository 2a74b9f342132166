"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, whose last states a UNet attends to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..lora_names import adapted_width, adapts
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
from .one_file import CLIP_SIGN, LDM_UNET, LDM_VAE, Stored, as_it_is, channels_fault, open_clip, text_width

if TYPE_CHECKING:
    from torch import Tensor

    from ..headers import Header

TOKENS = 77
"""Tokens of a prompt."""
OLD_SIDE = 64
"""Side of the latents of models that diffusers below 0.9 saved with a smaller one by mistake."""
DOWN_BLOCKS = 4
"""Blocks on the way down of a UNet whose configuration does not say."""
SIZES_SIGN = "label_emb.0.0.weight"
"""Tensor of UNets that are told sizes beside the text."""
TEXT_WIDTHS = {768: "sd1", 1024: "sd2"}
"""Width of the text -> shipped description."""
UNET_LAYER = "(down|up|input|output)_blocks_|mid(dle)?_block_"
"""Names of a UNet's layers in LoRAs, a regular expression."""
TEXT_LAYER = "attn2_(processor_)?to_k_"
"""Names of those that take a text."""
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
"""What a UNet predicts, in the words of ModelSpec (github.com/Stability-AI/ModelSpec) -> in those of diffusers."""


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
    IN_ONE_FILE: ClassVar[Mapping[str, tuple[Stored, ...]]] = {
        "unet": (LDM_UNET,),
        "vae": LDM_VAE,
        "text_encoder": (
            Stored("cond_stage_model.transformer.", CLIP_SIGN, as_it_is),
            Stored("cond_stage_model.model.", "token_embedding.weight", open_clip),
        ),
    }

    @classmethod
    def is_in(cls, header: "Header") -> bool:
        """UNets that are told a text alone."""
        return super().is_in(header) and SIZES_SIGN not in cls.network_shapes(header)

    @classmethod
    def shipped_as(cls, header: "Header") -> str | None:
        """By the width of the text; of 2.x, the one of 512 pixels where the file says that it predicts noise."""
        name = TEXT_WIDTHS.get(text_width(cls.network_shapes(header)))
        predicts_noise = cls.scheduler_in(header).get("prediction_type") == "epsilon"
        return f"{name}-base" if name == "sd2" and predicts_noise else name

    @classmethod
    def other_purpose(cls, header: "Header") -> str | None:
        """UNets that get more than latents."""
        return unet_purpose(cls.network_shapes(header))

    @classmethod
    def scheduler_in(cls, header: "Header") -> dict[str, Any]:
        """What the UNet predicts, and whether its noise ends in noise alone."""
        return unet_schedule(header)

    @classmethod
    def is_of_lora(cls, header: "Header") -> bool:
        """LoRAs of UNets for its widths of the text."""
        return adapts(header, UNET_LAYER) and adapted_width(header, TEXT_LAYER) in TEXT_WIDTHS

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


def unet_purpose(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What a UNet in a checkpoint is for, if not for latents alone."""
    return channels_fault(shapes.get("input_blocks.0.0.weight", ()), shapes.get("out.2.weight", ()))


def unet_schedule(header: "Header") -> dict[str, Any]:
    """What a checkpoint says of its scheduler, by ModelSpec's notes and by tensors that trainers put there as signs."""
    words: dict[str, Any] = {}
    if (predicts := PREDICTIONS.get(header.notes.get("modelspec.prediction_type", ""))) is not None:
        words["prediction_type"] = predicts
    if "v_pred" in header.shapes:
        words["prediction_type"] = "v_prediction"
    if "ztsnr" in header.shapes:
        words["rescale_betas_zero_snr"] = True
    return words
