"""Stable Diffusion 3 and 3.5: a transformer that matches flows, told by two CLIP text encoders and a T5."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..lora_names import adapted_width, adapts
from ..sampling import FLOW
from .base import (
    CLIP_TEXT_PROJECTED,
    CLIP_TOKENS,
    LARGEST_SIDE,
    T5_TEXT,
    T5_TOKENS,
    VAE,
    Conditions,
    Model,
    Part,
    size_faults,
    width_fault,
)
from .one_file import CLIP_SIGN, LDM_VAE, T5_STORED, Stored, Tensors, as_it_is, clip_without_projection

if TYPE_CHECKING:
    from torch import Tensor

    from ..headers import Header

CLIP_LENGTH = 77
"""Tokens of a prompt for the CLIPs."""
SIGN = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
"""Name of a tensor in checkpoints."""
SHIPPED = {(24, 192**2): "sd3-medium", (24, 384**2): "sd3.5-medium", (38, 192**2): "sd3.5-large"}
"""Blocks, and places in the table of positions -> shipped description."""
WIDTHS = (1536, 2432)
"""Widths of the attentions of the published models."""


def sd3_transformer(tensors: Tensors, network: Any) -> Tensors:  # noqa: ARG001
    """The state of a transformer by the names of diffusers."""
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    converted: Tensors = convert_sd3_transformer_checkpoint_to_diffusers(dict(tensors))
    return converted


@dataclass(frozen=True, kw_only=True)
class StableDiffusion3(Model):
    """Stable Diffusion 3 and 3.5.

    Attributes:
        transformer: network that predicts the flow.
        text_encoder: first CLIP.
        text_encoder_2: second CLIP.
        text_encoder_3: T5; None where the model goes without, which saves much memory.
        tokenizer: what turns prompts into tokens for the first CLIP.
        tokenizer_2: the same for the second.
        tokenizer_3: the same for the T5.
    """

    transformer: Any
    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any
    text_encoder_3: Any = None
    tokenizer_3: Any = None

    KIND = "Stable Diffusion 3 or 3.5"
    PIPELINES = ("StableDiffusion3Pipeline",)
    PARTS: ClassVar[Mapping[str, Part]] = {
        "transformer": Part("diffusers", ("SD3Transformer2DModel",)),
        "vae": VAE,
        "text_encoder": CLIP_TEXT_PROJECTED,
        "text_encoder_2": CLIP_TEXT_PROJECTED,
        "text_encoder_3": replace(T5_TEXT, optional=True),
        "tokenizer": CLIP_TOKENS,
        "tokenizer_2": CLIP_TOKENS,
        "tokenizer_3": replace(T5_TOKENS, optional=True),
    }
    NETWORK = "transformer"
    SCHEDULERS = FLOW
    USUAL_GUIDANCE = 7.0
    T5_LENGTH = 256
    READS_KOHYA = False
    IN_ONE_FILE: ClassVar[Mapping[str, tuple[Stored, ...]]] = {
        "transformer": (Stored("model.diffusion_model.", SIGN, sd3_transformer), Stored("", SIGN, sd3_transformer)),
        "vae": LDM_VAE,
        "text_encoder": (Stored("text_encoders.clip_l.transformer.", CLIP_SIGN, clip_without_projection),),
        "text_encoder_2": (Stored("text_encoders.clip_g.transformer.", CLIP_SIGN, as_it_is),),
        "text_encoder_3": T5_STORED,
    }

    @classmethod
    def shipped_as(cls, header: "Header") -> str | None:
        """By the number of blocks and the size of the table of positions."""
        shapes = cls.network_shapes(header)
        blocks = {name.split(".")[1] for name in shapes if name.startswith("joint_blocks.")}
        places = shapes.get("pos_embed", (0, 0))
        return SHIPPED.get((len(blocks), places[1] if len(places) > 1 else 0))

    @classmethod
    def is_of_lora(cls, header: "Header") -> bool:
        """LoRAs of attentions of its widths, or with the names of its checkpoints."""
        width = adapted_width(header, r"(^|_)transformer_blocks_\d+_attn_(to_[qkv]|to_out_0)_")
        return width in WIDTHS or adapts(header, "(^|_)joint_blocks_")

    def encode(self, prompts: Sequence[str]) -> Conditions:
        """The CLIPs' last but one states side by side, then the T5's; and the CLIPs' embeddings side by side."""
        import torch
        from torch.nn.functional import pad

        (clip, pooled), long = self.clip_states(prompts), self._long(prompts)
        clip = pad(clip, (0, long.shape[-1] - clip.shape[-1]))
        return {"text": torch.cat([clip, long.to(clip.dtype)], dim=-2), "pooled": torch.cat(pooled, dim=-1)}

    def _long(self, prompts: Sequence[str]) -> "Tensor":
        """The T5's last states, shape (prompts, T5_LENGTH, width); zeros where there is none."""
        import torch

        if self.text_encoder_3 is None:
            width = self.transformer.config.joint_attention_dim
            return torch.zeros(len(prompts), self.T5_LENGTH, width, device=self.device, dtype=self.dtype)
        states: Tensor = self.text_encoder_3(self.padded("tokenizer_3", prompts).input_ids)[0]
        return states

    @staticmethod
    def predict(network: Any, x: "Tensor", t: "Tensor", conditions: Conditions) -> "Tensor":
        """One pass of the transformer."""
        prediction: Tensor = network(
            hidden_states=x,
            timestep=t,
            encoder_hidden_states=conditions["text"],
            pooled_projections=conditions["pooled"],
            return_dict=False,
        )[0]
        return prediction

    def network_faults(self) -> Iterator[tuple[str, str, str]]:
        """Latents and conditions of other sizes than the other parts make."""
        own, first, second = self.transformer.config, self.text_encoder.config, self.text_encoder_2.config
        yield from size_faults("transformer", own.sample_size)
        yield from width_fault(
            "transformer.in_channels", own.in_channels, self.channels, "as many as its vae has channels,"
        )
        told = first.projection_dim + second.projection_dim
        yield from width_fault(
            "transformer.pooled_projection_dim", own.pooled_projection_dim, told, "that of its CLIP text encoders,"
        )
        if self.text_encoder_3 is not None:
            width = self.text_encoder_3.config.d_model
            yield from width_fault(
                "transformer.joint_attention_dim", own.joint_attention_dim, width, "its T5 text encoder's"
            )

    @classmethod
    def takes(cls, config: Mapping[str, Any]) -> bool:
        """Transformers from latents to latents."""
        return bool(config.get("in_channels", 16) == config.get("out_channels", 16))

    @classmethod
    def most_side(cls, config: Mapping[str, Any]) -> int:
        """As many patches as its table of positions has on a side."""
        return min(LARGEST_SIDE, cls.side_step(config) * int(config.get("pos_embed_max_size") or 96))

    @classmethod
    def drawn_conditions(
        cls,
        config: Mapping[str, Any],
        rows: int,
        size: tuple[int, int],  # noqa: ARG003
        place: Mapping[str, Any],
    ) -> Conditions:
        """Random states of the CLIPs and the T5, and the CLIPs' embeddings."""
        import torch

        text = torch.randn(rows, CLIP_LENGTH + cls.T5_LENGTH, config["joint_attention_dim"], **place)
        return {"text": text, "pooled": torch.randn(rows, config["pooled_projection_dim"], **place)}
