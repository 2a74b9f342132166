"""FLUX.1: a transformer that matches flows on packed latents; it is told the guidance scale, or needs none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..lora_names import adapted_width, adapts
from ..sampling import FLOW
from .base import (
    CLIP_TEXT,
    CLIP_TOKENS,
    T5_TEXT,
    T5_TOKENS,
    VAE,
    Conditions,
    Model,
    Part,
    width_fault,
)
from .flux_file import SIGN, flux_transformer
from .one_file import CLIP_SIGN, LDM_VAE, T5_STORED, Stored, as_it_is, channels_fault

if TYPE_CHECKING:
    from torch import Tensor

    from ..headers import Header

AXES = (16, 56, 56)
"""Widths of a token's rotary positions: of the picture, its row and its column."""
PATCH = 2
"""Side of the squares of latents that are packed into one token."""
TIMESTEPS = 1000
"""Timesteps of training; the transformer counts them from 0 to 1."""
WIDTH = 3072
"""Width of its attentions."""
LORA_LAYER = r"single_(transformer_)?blocks_\d|double_blocks_\d+_(img|txt)_"
"""Names of its layers in LoRAs, a regular expression."""


@dataclass(frozen=True, kw_only=True)
class Flux(Model):
    """FLUX.1-dev and FLUX.1-schnell.

    Attributes:
        transformer: network that predicts the flow.
        text_encoder: CLIP, of which only the embedding of the whole prompt is used.
        text_encoder_2: T5.
        tokenizer: what turns prompts into tokens for the CLIP.
        tokenizer_2: the same for the T5.
    """

    transformer: Any
    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any

    KIND = "FLUX.1"
    PIPELINES = ("FluxPipeline",)
    PARTS: ClassVar[Mapping[str, Part]] = {
        "transformer": Part("diffusers", ("FluxTransformer2DModel",)),
        "vae": VAE,
        "text_encoder": CLIP_TEXT,
        "text_encoder_2": T5_TEXT,
        "tokenizer": CLIP_TOKENS,
        "tokenizer_2": T5_TOKENS,
    }
    NETWORK = "transformer"
    SCHEDULERS = FLOW
    USUAL_GUIDANCE = 3.5
    DOUBLES = False
    """It is told the scale, or was distilled to need none."""
    IN_ONE_FILE: ClassVar[Mapping[str, tuple[Stored, ...]]] = {
        "transformer": (Stored("model.diffusion_model.", SIGN, flux_transformer), Stored("", SIGN, flux_transformer)),
        "vae": LDM_VAE,
        "text_encoder": (Stored("text_encoders.clip_l.transformer.", CLIP_SIGN, as_it_is),),
        "text_encoder_2": T5_STORED,
    }

    @classmethod
    def is_in(cls, header: "Header") -> bool:
        """Transformers that are told the embedding of the whole prompt, as later relatives are not."""
        return super().is_in(header) and "vector_in.in_layer.weight" in cls.network_shapes(header)

    @classmethod
    def shipped_as(cls, header: "Header") -> str | None:
        """By the width, and by whether it is told the guidance scale."""
        shapes = cls.network_shapes(header)
        if shapes.get("img_in.weight", (0,))[0] != WIDTH:
            return None
        return "flux.1-dev" if "guidance_in.in_layer.weight" in shapes else "flux.1-schnell"

    @classmethod
    def other_purpose(cls, header: "Header") -> str | None:
        """Transformers that get more than latents."""
        shapes = cls.network_shapes(header)
        return channels_fault(shapes.get("img_in.weight", ()), shapes.get("final_layer.linear.weight", ()))

    @classmethod
    def is_of_lora(cls, header: "Header") -> bool:
        """LoRAs with the names of its blocks, and of its width where they tell one."""
        width = adapted_width(header, "attn_(to_q|qkv)_|linear1_")
        return adapts(header, LORA_LAYER) and width in (None, WIDTH)

    def __post_init__(self) -> None:
        height, width = self.latent_shape[1:]
        tokens = (height // PATCH) * (width // PATCH)
        told = self.scheduler_config | {"image_tokens": tokens, "last_sigma": "1/N"}
        object.__setattr__(self, "scheduler_config", told)  # of this size of pictures

    @property
    def own_latent_size(self) -> tuple[int, int]:
        """What it was trained for, as the pipeline of diffusers has it; no configuration says so."""
        return self.SIDE, self.SIDE

    def encode(self, prompts: Sequence[str]) -> Conditions:
        """The T5's last states, and the CLIP's embedding of the whole prompt."""
        text = self.text_encoder_2(self.padded("tokenizer_2", prompts).input_ids)[0]
        pooled = self.text_encoder(self.padded("tokenizer", prompts).input_ids).pooler_output
        return {"text": text, "pooled": pooled}

    def with_guidance(self, conditions: Conditions, guidance: float) -> Conditions:
        """The scale as the transformer of FLUX.1-dev is told it."""
        return told_scale(self.transformer.config, conditions, guidance)

    @staticmethod
    def predict(network: Any, x: "Tensor", t: "Tensor", conditions: Conditions) -> "Tensor":
        """One pass of the transformer."""
        prediction = network(
            hidden_states=packed(x),
            timestep=t.to(x.dtype) / TIMESTEPS,
            guidance=conditions.get("guidance"),
            pooled_projections=conditions["pooled"],
            encoder_hidden_states=conditions["text"],
            txt_ids=x.new_zeros(conditions["text"].shape[1], 3),
            img_ids=places(x),
            return_dict=False,
        )[0]
        return unpacked(prediction, x)

    def network_faults(self) -> Iterator[tuple[str, str, str]]:
        """Latents and conditions of other sizes than the other parts make."""
        own, clip, t5 = self.transformer.config, self.text_encoder.config, self.text_encoder_2.config
        channels = PATCH * PATCH * self.channels
        yield from width_fault("transformer.in_channels", own.in_channels, channels, "four times its vae's channels,")
        yield from width_fault(
            "transformer.joint_attention_dim", own.joint_attention_dim, t5.d_model, "its T5 text encoder's"
        )
        yield from width_fault(
            "transformer.pooled_projection_dim", own.pooled_projection_dim, clip.hidden_size, "its CLIP text encoder's"
        )

    @classmethod
    def takes(cls, config: Mapping[str, Any]) -> bool:
        """Transformers from latents to latents, whose rotary positions are as wide as their attention's heads."""
        channels, axes = config.get("in_channels", 64), config.get("axes_dims_rope", AXES)
        whole = isinstance(axes, list | tuple) and all(type(axis) is int and axis % 2 == 0 for axis in axes)
        as_wide = whole and sum(axes) == config.get("attention_head_dim", sum(AXES))
        return as_wide and len(axes) == len(AXES) and config.get("out_channels") in (None, channels)

    @classmethod
    def channels_of(cls, config: Mapping[str, Any]) -> int:
        """A token holds a square of them."""
        return super().channels_of(config) // PATCH**2

    @classmethod
    def side_step(cls, config: Mapping[str, Any]) -> int:  # noqa: ARG003
        """The side of the squares; the transformer itself gets them packed."""
        return PATCH

    @classmethod
    def drawn_conditions(
        cls,
        config: Mapping[str, Any],
        rows: int,
        size: tuple[int, int],  # noqa: ARG003
        place: Mapping[str, Any],
    ) -> Conditions:
        """Random states of the T5 and embedding of the CLIP, and the usual scale."""
        import torch

        text = torch.randn(rows, cls.T5_LENGTH, config["joint_attention_dim"], **place)
        pooled = torch.randn(rows, config["pooled_projection_dim"], **place)
        return told_scale(config, {"text": text, "pooled": pooled}, cls.USUAL_GUIDANCE)


def told_scale(config: Mapping[str, Any], conditions: Conditions, guidance: float) -> Conditions:
    """The conditions, with the guidance scale for a transformer that is told it."""
    import torch

    if not config["guidance_embeds"]:
        return conditions
    text = conditions["text"]
    scale = torch.full((len(text),), guidance, device=text.device, dtype=torch.float32)
    return {**conditions, "guidance": scale}


def packed(x: "Tensor") -> "Tensor":
    """Latents as tokens of PATCH x PATCH places: (b, c, h, w) -> (b, h w / 4, 4 c)."""
    rows, channels, height, width = x.shape
    squares = x.view(rows, channels, height // PATCH, PATCH, width // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(rows, (height // PATCH) * (width // PATCH), channels * PATCH * PATCH)


def unpacked(tokens: "Tensor", like: "Tensor") -> "Tensor":
    """The inverse of `packed`, in the shape of other latents."""
    rows, channels, height, width = like.shape
    squares = tokens.view(rows, height // PATCH, width // PATCH, channels, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(like.shape)


def places(x: "Tensor") -> "Tensor":
    """Row and column of every token, shape (tokens, 3); the first number is 0 in every picture."""
    import torch

    height, width = x.shape[-2] // PATCH, x.shape[-1] // PATCH
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    grid = torch.cartesian_prod(rows, columns).to(x.dtype).reshape(-1, 2)
    return torch.cat([torch.zeros_like(grid[:, :1]), grid], dim=1)
