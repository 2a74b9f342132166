"""The toy world's networks: the classes of Stable Diffusion's parts, made small."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..world import SIDE, words

LATENT_CHANNELS = 16
LATENT_SIDE = SIDE // 4
TOKENS = 24
WIDTH = 96
"""Width of the text encoder, and of the embeddings."""
START, END, END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "</w>"


def make_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer to which every word of the world is one token; the same on every call."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    single = [*letters, *(letter + END_OF_WORD for letter in letters)]
    merges: Any = byte_pair_merges(words())  # pairs work; the library's types know only lines
    tokens = list(dict.fromkeys([START, END, *single, *(first + second for first, second in merges)]))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def byte_pair_merges(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding until every word is one token: the most frequent pair first, ties in alphabetical order."""
    split = [[*word[:-1], word[-1] + END_OF_WORD] for word in texts]
    merges = []
    while counts := Counter(pair for parts in split for pair in pairwise(parts)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        split = [_merged(parts, best) for parts in split]
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder: two layers of width 96."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            projection_dim=WIDTH,
        )
    )


def make_vae() -> AutoencoderKL:
    """The autoencoder: 4 x 4 pixels become one element of 16 channels."""
    return AutoencoderKL(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(24, 48, 64),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=8,
        sample_size=SIDE,
    )


def make_unet() -> UNet2DConditionModel:
    """The UNet of 12 x 12 latents, with attention to the text at 6 x 6 and 3 x 3."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )


def make_scheduler() -> DDIMScheduler:
    """The scheduler: Stable Diffusion's noise levels, with the velocity as what the UNet predicts."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def token_ids(tokenizer: Any, texts: list[str]) -> Tensor:
    """Padded token ids, shape (texts, tokens)."""
    encoded = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    ids: Tensor = encoded.input_ids
    return ids


def half(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module, with floating-point numbers as fp16."""
    state = module.state_dict()
    return {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in state.items()}


def count(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
