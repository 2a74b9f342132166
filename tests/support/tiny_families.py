"""A tiny model with random weights of every family, of the real classes of diffusers and transformers."""

import functools

import torch
from models import _tokenizer

LATENT_SIDE = 8


def _clip(projected=False, width=16):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = _tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


@functools.cache
def _t5_tokenizer():
    """A T5's tokenizer over the words of the toy world."""
    from transformers import T5Tokenizer

    words = sorted(_tokenizer().get_vocab(), key=_tokenizer().get_vocab().get)
    words = [word.removesuffix("</w>") for word in words if not word.startswith("<|")]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -5.0)]
    vocab += [(f"▁{word}", -1.0) for word in dict.fromkeys(words)]
    return T5Tokenizer(vocab=vocab, extra_ids=0)


def _t5(width=32):
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=len(_t5_tokenizer()), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )


def _vae(channels, **more):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        latent_channels=channels,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        **more,
    )


def _unet(**more):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=8,
        **more,
    )


def _diffusion_schedule(**more):
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, timestep_spacing="leading", prediction_type="epsilon", **more,
    )  # fmt: skip


def _flow_schedule(**more):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**more)


def _sd():
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=_vae(4), text_encoder=_clip(), tokenizer=_tokenizer(), unet=_unet(cross_attention_dim=16),
        scheduler=_diffusion_schedule(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _sdxl():
    from diffusers import StableDiffusionXLPipeline

    unet = _unet(
        cross_attention_dim=48,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(4), text_encoder=_clip(), text_encoder_2=_clip(projected=True, width=32), tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(), unet=unet, scheduler=_diffusion_schedule(),
    )  # fmt: skip


def _sd3(t5=True):
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=LATENT_SIDE, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
        out_channels=16, pos_embed_max_size=16, qk_norm="rms_norm", dual_attention_layers=(0,),
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=_flow_schedule(shift=3.0), vae=_vae(16, shift_factor=0.06),
        text_encoder=_clip(projected=True), tokenizer=_tokenizer(), text_encoder_2=_clip(projected=True),
        tokenizer_2=_tokenizer(), text_encoder_3=_t5() if t5 else None, tokenizer_3=_t5_tokenizer() if t5 else None,
    )  # fmt: skip


def _flux(dev=True):
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=dev, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    schedule = _flow_schedule(shift=3.0, use_dynamic_shifting=True) if dev else _flow_schedule(shift=1.0)
    return FluxPipeline(
        transformer=transformer, scheduler=schedule, vae=_vae(4, shift_factor=0.12), text_encoder=_clip(),
        tokenizer=_tokenizer(), text_encoder_2=_t5(), tokenizer_2=_t5_tokenizer(),
    )  # fmt: skip


def _pixart():
    from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=LATENT_SIDE, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2,
        in_channels=4, out_channels=8, cross_attention_dim=16, caption_channels=32, norm_type="ada_norm_single",
        use_additional_conditions=False,
    )  # fmt: skip
    return PixArtSigmaPipeline(
        transformer=transformer, scheduler=_diffusion_schedule(), vae=_vae(4), text_encoder=_t5(),
        tokenizer=_t5_tokenizer(),
    )  # fmt: skip


MAKERS = {
    "sd": _sd,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "sd3-without-t5": functools.partial(_sd3, t5=False),
    "flux-dev": _flux,
    "flux-schnell": functools.partial(_flux, dev=False),
    "pixart": _pixart,
}
"""Every tiny model, by name."""


def tiny_pipeline(name, seed=0):
    """A pipeline of diffusers with random weights."""
    torch.manual_seed(seed)
    pipeline = MAKERS[name]()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
