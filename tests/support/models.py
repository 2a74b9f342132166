"""Small models with random weights, made in a second and without a network."""

import functools

import numpy as np
import torch

from edgesplit import data
from edgesplit.diffusion.inference.families.sd import StableDiffusion
from edgesplit.diffusion.toyworld.trainers import networks

COLOURS = ("golden", "black", "white")


@functools.cache
def _tokenizer():
    return networks.make_tokenizer()


def make_pipeline(seed=0, prediction_type="v_prediction", channels=4):
    """A `StableDiffusionPipeline` of 32 x 32 pictures and 8 x 8 latents."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=networks.TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    vae = AutoencoderKL(
        latent_channels=channels,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        sample_size=32,
    )
    scheduler = DDIMScheduler.from_config(networks.make_scheduler().config, prediction_type=prediction_type)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def explicit(config):
    """A scheduler's configuration without diffusers' notes of what to ignore, so that any option can be changed."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def as_model(pipeline, subject="dog", name="test model"):
    """The pipeline's parts as hybrid inference takes them."""
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        part.eval().requires_grad_(False)
    return StableDiffusion(
        name=name,
        unet=pipeline.unet,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        vae=pipeline.vae,
        scheduler_config=dict(pipeline.scheduler.config),
        subject=subject,
    )


def toy_clip():
    """The folder of the toy world's CLIP."""
    return data.located("toyworld/clip")


def save_clip(folder):
    """A CLIP with random weights in open_clip's folder format."""
    import json

    from safetensors.torch import save_file

    from edgesplit.diffusion.toyworld.trainers import clip

    torch.manual_seed(0)
    config = clip.clip_config(_tokenizer())
    folder.mkdir(parents=True)
    save_file(networks.half(clip.make_clip(_tokenizer())), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    _tokenizer().save_pretrained(folder)
    return folder


def save_cohort(folder, names=("anna", "ben"), base=None, photos=3, **training):
    """A cohort file with rendered photos and a base with random weights, trained for a few steps; its path."""
    from edgesplit.diffusion.toyworld import world

    if base is None:
        base = folder / "base"
        make_pipeline(seed=5).save_pretrained(base)
    clip = save_clip(folder / "clip")
    rng = np.random.default_rng(0)
    for name in names:
        world.save_photos(folder / "photos" / name, world.random_identity(rng), photos, seed=1)
    settings = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "save_every": 2} | training
    lines = [
        f'base = "{base}"',
        "sampling_steps = 2",
        "[training]",
        *(
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
            for key, value in settings.items()
        ),
        "[class]",
        "images = 3",
        "[gate]",
        f'clip = "{clip}"',
        "samples = 2",
        *(f'[[users]]\nname = "{name}"\nphotos = "photos/{name}"' for name in names),
    ]
    path = folder / "cohort.toml"
    path.write_text("\n".join(lines).replace("'", '"') + "\n")
    return path


def save_finished_cohort(folder, names=("anna", "ben", "cleo")):
    """What `dreambooth` leaves behind for a cohort of the toy world, with random weights and one decoder."""
    import json

    first = make_pipeline(seed=0)
    for number, name in enumerate(["cluster", *names]):
        pipeline = make_pipeline(seed=number)
        pipeline.vae = first.vae
        own = folder / "cluster" if name == "cluster" else folder / "users" / name
        pipeline.save_pretrained(own)
        own_words = {"subject": "sks dog", "description": f"a {COLOURS[number - 1]} dog"}
        words = {"subject": "dog"} if name == "cluster" else own_words
        (own / "edgesplit.json").write_text(json.dumps(words))
        (own / "gate.json").write_text(json.dumps({"clip": "toyworld"}))
    return folder
