"""PixArt-Sigma: a transformer that predicts noise, told by a T5 and the mask of its tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..lora_names import adapted_width
from .base import (
    T5_TEXT,
    T5_TOKENS,
    VAE,
    Conditions,
    Model,
    Part,
    size_faults,
    width_fault,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..headers import Header

NORM = "ada_norm_single"
"""Norm by which its transformers are known from others whose class had the same name."""
SIGN = "y_embedder.y_proj.fc1.weight"
"""Name of a tensor in its checkpoints, of which diffusers reads none."""
WIDTH = 1152
"""Width of its attentions."""
SIDE_WITH_SIZES = 128
"""Side of the latents at which a transformer's class has it know sizes where its configuration does not say."""


@dataclass(frozen=True, kw_only=True)
class PixArt(Model):
    """PixArt-Sigma.

    Attributes:
        transformer: network that predicts the noise, and a variance that is not used.
        text_encoder: T5.
        tokenizer: what turns prompts into tokens.
    """

    transformer: Any
    text_encoder: Any
    tokenizer: Any

    KIND = "PixArt-Sigma"
    PIPELINES = ("PixArtSigmaPipeline",)
    PARTS: ClassVar[Mapping[str, Part]] = {
        "transformer": Part("diffusers", ("PixArtTransformer2DModel", "Transformer2DModel")),  # as older files name it
        "vae": VAE,
        "text_encoder": T5_TEXT,
        "tokenizer": T5_TOKENS,
    }
    NETWORK = "transformer"
    USUAL_GUIDANCE = 4.5
    T5_LENGTH = 300
    READS_KOHYA = False

    @classmethod
    def is_in(cls, header: "Header") -> bool:
        """Checkpoints with the names of its authors."""
        return SIGN in header.shapes

    @classmethod
    def other_purpose(cls, header: "Header") -> str | None:  # noqa: ARG003
        """None can be loaded."""
        return "a transformer alone with names that diffusers does not read; convert it to a folder"

    @classmethod
    def is_of_lora(cls, header: "Header") -> bool:
        """LoRAs of attentions of its width."""
        return adapted_width(header, r"(^|_)transformer_blocks_\d+_attn1_") == WIDTH

    def as_read(self, prompt: str) -> str:
        """In lower case, as it was trained."""
        return prompt.lower().strip()

    def encode(self, prompts: Sequence[str]) -> Conditions:
        """The T5's last states, and which of its tokens are no padding."""
        tokens = self.padded("tokenizer", list(map(self.as_read, prompts)))
        text = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return {"text": text, "mask": tokens.attention_mask}

    @staticmethod
    def predict(network: Any, x: "Tensor", t: "Tensor", conditions: Conditions) -> "Tensor":
        """One pass of the transformer."""
        prediction: Tensor = network(
            x,
            encoder_hidden_states=conditions["text"],
            encoder_attention_mask=conditions["mask"],
            timestep=t,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return prediction[:, : x.shape[1]]

    def network_faults(self) -> Iterator[tuple[str, str, str]]:
        """Latents and conditions of other sizes than the other parts make."""
        own, text = self.transformer.config, self.text_encoder.config
        yield from size_faults("transformer", own.sample_size)
        yield from width_fault(
            "transformer.in_channels", own.in_channels, self.channels, "as many as its vae has channels,"
        )
        yield from width_fault("transformer.caption_channels", own.caption_channels, text.d_model, "its text encoder's")

    @classmethod
    def takes(cls, config: Mapping[str, Any]) -> bool:
        """Transformers that are told a text alone; those of PixArt-alpha of 1024 pixels know sizes, too."""
        told, side = config.get("use_additional_conditions"), config.get("sample_size", cls.SIDE)
        alone = not told and (told is False or side != SIDE_WITH_SIZES)
        return alone and config.get("norm_type", NORM) == NORM

    @classmethod
    def drawn_conditions(
        cls,
        config: Mapping[str, Any],
        rows: int,
        size: tuple[int, int],  # noqa: ARG003
        place: Mapping[str, Any],
    ) -> Conditions:
        """Random states of the T5, and a mask that hides none."""
        import torch

        text = torch.randn(rows, cls.T5_LENGTH, config["caption_channels"] or config["cross_attention_dim"], **place)
        return {"text": text, "mask": torch.ones(rows, cls.T5_LENGTH, device=place["device"], dtype=torch.long)}
