"""Stable Diffusion XL: two CLIP text encoders, whose last but one states a UNet attends to; it knows sizes, too."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..lora_names import adapted_width, adapts
from .base import (
    CLIP_TEXT,
    CLIP_TEXT_PROJECTED,
    CLIP_TOKENS,
    UNET,
    VAE,
    Conditions,
    Model,
    Part,
    width_fault,
)
from .one_file import CLIP_SIGN, LDM_UNET, LDM_VAE, Stored, as_it_is, open_clip, text_width
from .sd import (
    SIZES_SIGN,
    TEXT_LAYER,
    UNET_LAYER,
    drawn_text,
    takes_text,
    unet_faults,
    unet_purpose,
    unet_schedule,
    unet_side_step,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..headers import Header

SIZES = 6
"""Numbers that describe the picture: height and width, place of the crop, target height and width."""
OWN_LAYER = "^lora_te2_|^text_encoder_2_|_transformer_blocks_[1-9]"
"""Names of its layers in LoRAs that the older models do not have, a regular expression."""
TEXT_WIDTH, REFINER_WIDTH = 2048, 1280
"""Widths of the text of the shipped model, and of its refiner, which has its second text encoder alone."""


@dataclass(frozen=True, kw_only=True)
class StableDiffusionXl(Model):
    """Stable Diffusion XL.

    Attributes:
        unet: network that predicts the noise or its velocity.
        text_encoder: first network that turns tokens into embeddings.
        text_encoder_2: second one, whose embedding of the whole prompt the UNet is told as well.
        tokenizer: what turns prompts into tokens for the first.
        tokenizer_2: the same for the second.
        force_zeros_for_empty_prompt: whether guidance without a negative prompt leads away from zeros.
    """

    unet: Any
    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any
    force_zeros_for_empty_prompt: bool = True

    KIND = "Stable Diffusion XL"
    PIPELINES = ("StableDiffusionXLPipeline",)
    PARTS: ClassVar[Mapping[str, Part]] = {
        "unet": UNET,
        "vae": VAE,
        "text_encoder": CLIP_TEXT,
        "text_encoder_2": CLIP_TEXT_PROJECTED,
        "tokenizer": CLIP_TOKENS,
        "tokenizer_2": CLIP_TOKENS,
    }
    NETWORK = "unet"
    SCHEDULERS = ("euler", "ddim", "ddpm", "euler-ancestral")
    USUAL_GUIDANCE = 5.0
    UPCASTS_VAE = True
    SIDE = 64
    IN_ONE_FILE: ClassVar[Mapping[str, tuple[Stored, ...]]] = {
        "unet": (LDM_UNET,),
        "vae": LDM_VAE,
        "text_encoder": (Stored("conditioner.embedders.0.transformer.", CLIP_SIGN, as_it_is),),
        "text_encoder_2": (Stored("conditioner.embedders.1.model.", "token_embedding.weight", open_clip),),
    }

    @classmethod
    def is_in(cls, header: "Header") -> bool:
        """UNets that are told sizes beside the text."""
        return super().is_in(header) and SIZES_SIGN in cls.network_shapes(header)

    @classmethod
    def shipped_as(cls, header: "Header") -> str | None:
        """By the width of the text."""
        return "sdxl" if text_width(cls.network_shapes(header)) == TEXT_WIDTH else None

    @classmethod
    def other_purpose(cls, header: "Header") -> str | None:
        """Its refiner, models with another kind of noise, and UNets that get more than latents."""
        shapes = cls.network_shapes(header)
        if text_width(shapes) == REFINER_WIDTH:
            return "a refiner, which finishes pictures of another model"
        if "edm_mean" in header.shapes:
            return "a model of EDM's noise levels, as Playground 2.5"
        return unet_purpose(shapes)

    @classmethod
    def scheduler_in(cls, header: "Header") -> dict[str, Any]:
        """What the UNet predicts, and whether its noise ends in noise alone."""
        return unet_schedule(header)

    @classmethod
    def is_of_lora(cls, header: "Header") -> bool:
        """LoRAs of UNets for its width of the text, with several blocks in a layer, or beside a second text encoder."""
        own = adapts(header, OWN_LAYER) or adapted_width(header, TEXT_LAYER) == TEXT_WIDTH
        return own and adapts(header, UNET_LAYER)

    def encode(self, prompts: Sequence[str]) -> Conditions:
        """Both text encoders' last but one states, side by side; the second one's embedding; the sizes."""
        text, (_, pooled) = self.clip_states(prompts)
        return {"text": text, "pooled": pooled, "sizes": self._sizes(len(prompts), text)}

    def _sizes(self, rows: int, like: "Tensor") -> "Tensor":
        """Original size, place of the crop and target size, in pixels, shape (rows, 6)."""
        height, width = (self.vae_factor * side for side in self.latent_shape[1:])
        return like.new_tensor([told_sizes(height, width)]).expand(rows, -1)

    def encode_nothing(self, negative_prompt: str) -> Conditions:
        """Zeros where there is no negative prompt and the model was trained so."""
        import torch

        conditions = dict(self.encode([negative_prompt]))
        if self.force_zeros_for_empty_prompt and not negative_prompt:
            conditions |= {name: torch.zeros_like(conditions[name]) for name in ("text", "pooled")}
        return conditions

    @staticmethod
    def predict(network: Any, x: "Tensor", t: "Tensor", conditions: Conditions) -> "Tensor":
        """One pass of the UNet."""
        added = {"text_embeds": conditions["pooled"], "time_ids": conditions["sizes"]}
        prediction: Tensor = network(
            x, t, encoder_hidden_states=conditions["text"], added_cond_kwargs=added, return_dict=False
        )[0]
        return prediction

    def network_faults(self) -> Iterator[tuple[str, str, str]]:
        """Latents and conditions of other sizes than the other parts make."""
        unet, first, second = self.unet.config, self.text_encoder.config, self.text_encoder_2.config
        yield from unet_faults(unet, self.vae.config)
        width = first.hidden_size + second.hidden_size
        yield from width_fault("unet.cross_attention_dim", unet.cross_attention_dim, width, "its text encoders'")
        told = SIZES * (unet.addition_time_embed_dim or 0) + second.projection_dim
        yield from width_fault(
            "unet.projection_class_embeddings_input_dim",
            unet.projection_class_embeddings_input_dim,
            told,
            "that of six sizes and its second text encoder's projection,",
        )

    @classmethod
    def takes(cls, config: Mapping[str, Any]) -> bool:
        """UNets that are told sizes beside the text."""
        return config.get("addition_embed_type") == "text_time" and takes_text(config)

    @classmethod
    def side_step(cls, config: Mapping[str, Any]) -> int:
        """A UNet's blocks halve the sides evenly."""
        return unet_side_step(config)

    @classmethod
    def drawn_conditions(
        cls, config: Mapping[str, Any], rows: int, size: tuple[int, int], place: Mapping[str, Any]
    ) -> Conditions:
        """Random states and embedding, and the sizes of the pictures."""
        import torch

        embedded = config["projection_class_embeddings_input_dim"] - SIZES * config["addition_time_embed_dim"]
        sizes = torch.tensor([told_sizes(*size)] * rows, **place)
        return {
            "text": drawn_text(config, rows, place),
            "pooled": torch.randn(rows, embedded, **place),
            "sizes": sizes,
        }


def told_sizes(height: int, width: int) -> list[int]:
    """What the UNet is told of a picture that is not cropped: the `SIZES` numbers."""
    return [height, width, 0, 0, height, width]
