"""The stages of the toy world's training; each is one function and writes one folder of weights."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference.models import save_half
from ...train.dreambooth import denoising_losses, scaled_posterior
from ...train.loop import Job, Progress, save_tensors, train, warm_then_linear
from .. import world
from . import networks

PICTURES, PICTURES_SEED = 20_000, 1
HELD_OUT, HELD_OUT_SEED = 1_000, 2
CROP = 24
PERCEPTUAL_SIDE = 64
CLIP_SIDE, CLIP_BATCH = 96, 128
ATTRIBUTES = {
    "fur": list(world.FURS),
    "second": list(world.FURS),
    "ears": list(world.EARS),
    "pattern": list(world.PATTERNS),
    "place": list(world.PLACES),
    "side": list(world.SIDES),
    "extra": list(world.EXTRAS),
}
Report = dict[str, Any]


def as_images(pixels: world.Pixels) -> Tensor:
    """Pixels (count, height, width, 3) of 0 to 255 -> images (count, 3, height, width) of -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(images: Tensor, others: Tensor) -> float:
    """Peak signal-to-noise ratio of images between -1 and 1, dB."""
    return float(10 * torch.log10(4 / (images - others).square().mean()))


def train_vae(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """The autoencoder, on crops: sharper than on whole pictures, and faster."""
    torch.manual_seed(0)
    vae = networks.make_vae()
    pixels = torch.from_numpy(world.pictures(PICTURES, PICTURES_SEED)[0]).permute(0, 3, 1, 2)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (32,), generator=generator)
        top, left = (4 * int(n) for n in torch.randint((world.SIDE - CROP) // 4 + 1, (2,), generator=generator))
        images = pixels[chosen][:, :, top : top + CROP, left : left + CROP].float() / 127.5 - 1
        return vae_loss(vae, images, generator)

    job = Job(
        modules={"vae": vae},
        loss=loss,
        steps=steps,
        learning_rates={"vae": 3e-3},
        schedule=warm_then_linear(0.02, 0.3, 0.01),
        average=0.995,
        weight_decay=1e-4,
        save_every=200,
    )
    trained: Any = train(job, work / "vae.checkpoint.safetensors", accelerator, progress)["vae"]
    trained.eval()
    held_out = as_images(world.pictures(128, HELD_OUT_SEED)[0])
    with torch.no_grad():
        latents = trained.encode(held_out).latent_dist.mean
        quality = psnr(trained.decode(latents).sample, held_out)
    trained.register_to_config(scaling_factor=1 / float(latents.std()))
    trained.save_pretrained(work / "vae")
    return {"psnr_db": quality, "parameters": count(trained)}


def vae_loss(vae: Any, images: Tensor, generator: torch.Generator) -> Tensor:
    """Absolute and squared error, error of the gradients (edges), and a little KL divergence."""
    posterior = vae.encode(images).latent_dist
    error = vae.decode(posterior.sample(generator)).sample - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    loss: Tensor = error.abs().mean() + error.square().mean() + 0.5 * edges + 1e-5 * divergence
    return loss


# -- labels: what the perceptual network and CLIP's picture tower learn beside ------------------------------


def labels(identities: Sequence[world.Identity], scenes: Sequence[world.Scene]) -> Tensor:
    """Index of each attribute (`ATTRIBUTES`) of each picture, shape (pictures, attributes)."""
    rows = [
        [options.index(getattr(dog, name, None) or getattr(scene, name)) for name, options in ATTRIBUTES.items()]
        for dog, scene in zip(identities, scenes, strict=True)
    ]
    return torch.tensor(rows)


class Heads(nn.Module):
    """One linear classifier per attribute on shared features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, sum(map(len, ATTRIBUTES.values())))

    def forward(self, features: Tensor) -> list[Tensor]:
        """Scores, one tensor (pictures, options) per attribute."""
        return list(self.linear(features).split([len(options) for options in ATTRIBUTES.values()], dim=1))


def label_loss(scores: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Sum of the cross entropies of all attributes."""
    losses = [functional.cross_entropy(score, target) for score, target in zip(scores, targets.T, strict=True)]
    return torch.stack(losses).sum()


def accuracies(scores: Sequence[Tensor], targets: Tensor) -> dict[str, float]:
    """Share of pictures whose attribute is recognised."""
    hits = [(score.argmax(1) == target).float().mean() for score, target in zip(scores, targets.T, strict=True)]
    return dict(zip(ATTRIBUTES, map(float, hits), strict=True))


# -- the perceptual network behind LPIPS --------------------------------------------------------------------


class Perceptual(nn.Module):
    """LPIPS' AlexNet with attribute classifiers on the means of its five layers."""

    def __init__(self) -> None:
        super().__init__()
        from lpips import ScalingLayer
        from lpips.pretrained_networks import alexnet

        self.scaling, self.net = ScalingLayer(), alexnet(requires_grad=True, pretrained=False)
        for module in self.net.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.heads = Heads(4 * (64 + 192 + 384 + 256 + 256))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Attribute scores of images between -1 and 1."""
        layers = self.net(self.scaling(functional.interpolate(images, size=PERCEPTUAL_SIDE, mode="bilinear")))
        scores: list[Tensor] = self.heads(
            torch.cat([functional.adaptive_avg_pool2d(layer, 2).flatten(1) for layer in layers], 1)
        )
        return scores


def train_perceptual(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """LPIPS' backbone, on the attributes of dogs and scenes."""
    torch.manual_seed(0)
    network = Perceptual()
    pixels, dogs, scenes = world.pictures(PICTURES, PICTURES_SEED)
    targets = labels(dogs, scenes)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (64,), generator=generator)
        return label_loss(network(as_images(pixels[chosen.numpy()])), targets[chosen])

    job = Job(
        modules={"network": network},
        loss=loss,
        steps=steps,
        learning_rates={"network": 8e-4},
        schedule=warm_then_linear(0.02, 0.0, 0.02),
        betas=(0.9, 0.999),
    )
    trained: Any = train(job, work / "perceptual.checkpoint.safetensors", accelerator, progress)["network"]
    held_out, dogs, scenes = world.pictures(HELD_OUT, HELD_OUT_SEED)
    with torch.no_grad():
        quality = accuracies(trained(as_images(held_out)), labels(dogs, scenes))
    (work / "lpips").mkdir(exist_ok=True)
    save_tensors(work / "lpips" / "alexnet.safetensors", half(trained.net), {})
    return {"accuracy": quality, "parameters": count(trained.net)}


# -- CLIP -------------------------------------------------------------------------------------------------


def clip_config(tokenizer: Any) -> dict[str, Any]:
    """What `open_clip` builds the model from."""
    end = tokenizer.eos_token_id
    text = {"context_length": networks.TOKENS, "vocab_size": len(tokenizer), "width": 96, "heads": 4, "layers": 2}
    return {
        "model_cfg": {
            "embed_dim": 96,
            "custom_text": True,
            "vision_cfg": {"timm_model_name": "test_resnet", "timm_pool": "avg", "image_size": CLIP_SIDE},
            "text_cfg": text | {"pool_type": "eos", "eos_id": end, "pad_id": end, "hf_tokenizer_name": "toyworld"},
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"},
    }


def make_clip(tokenizer: Any) -> Any:
    """The model of that configuration, untrained."""
    import open_clip

    parts = clip_config(tokenizer)["model_cfg"]
    return open_clip.CustomTextCLIP(**{key: parts[key] for key in ("embed_dim", "vision_cfg", "text_cfg")})


def train_clip(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """Pictures and captions, half of them of the dog alone; the picture tower also learns the attributes."""
    torch.manual_seed(0)
    tokenizer, folder = networks.make_tokenizer(), work / "clip"
    config = clip_config(tokenizer)
    model = make_clip(tokenizer)
    heads = Heads(96)
    pixels, dogs, scenes = world.pictures(PICTURES, PICTURES_SEED)
    targets = labels(dogs, scenes)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (CLIP_BATCH,), generator=generator)
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        images = functional.interpolate(as_images(pixels[chosen.numpy()]), size=CLIP_SIDE, mode="bilinear")
        ids = networks.token_ids(tokenizer, [clip_text(dogs[i], scenes[i], rng) for i in chosen.tolist()])
        seen, read, scale = model.encode_image(images), model.encode_text(ids, normalize=True), model.logit_scale.exp()
        logits = scale.clamp(max=100) * functional.normalize(seen, dim=-1) @ read.T
        pairs = torch.arange(len(ids))
        match = functional.cross_entropy(logits, pairs) + functional.cross_entropy(logits.T, pairs)
        return match + 0.3 * label_loss(heads(seen), targets[chosen])

    job = Job(
        modules={"model": model, "heads": heads},
        loss=loss,
        steps=steps,
        learning_rates={"model": 2e-3, "heads": 2e-3},
        schedule=warm_then_linear(0.03, 0.0, 0.01),
        weight_decay=0.02,
    )
    trained: Any = train(job, work / "clip.checkpoint.safetensors", accelerator, progress)["model"]
    folder.mkdir(exist_ok=True)
    save_tensors(folder / "open_clip_model.safetensors", half(trained), {})
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
    return {"zero_shot": zero_shot(trained.eval(), tokenizer), "parameters": count(trained)}


def clip_text(dog: world.Identity, scene: world.Scene, rng: np.random.Generator) -> str:
    """A caption: of the dog alone in full, or of the dog less fully in its scene."""
    if rng.random() < 0.5:
        return f"a photo of {world.describe(dog)}"
    return world.caption(world.describe(dog) if rng.random() < 0.5 else world.vague(dog, rng), scene)


def zero_shot(model: Any, tokenizer: Any) -> dict[str, float]:
    """Share of held-out pictures whose attribute is told from captions that differ in it alone."""
    pixels, dogs, scenes = world.pictures(HELD_OUT, HELD_OUT_SEED)
    images = functional.interpolate(as_images(pixels), size=CLIP_SIDE, mode="bilinear")
    with torch.no_grad():
        seen = model.encode_image(images, normalize=True)
    return told_apart(model, tokenizer, seen, dogs, scenes)


@torch.no_grad()
def told_apart(
    model: Any, tokenizer: Any, seen: Tensor, dogs: Sequence[world.Identity], scenes: Sequence[world.Scene]
) -> dict[str, float]:
    """Attribute -> share of pictures whose true full caption is nearest among those that differ in it alone.

    Args:
        model: CLIP.
        tokenizer: of captions.
        seen: CLIP's unit vectors of the pictures, shape (pictures, width).
        dogs: in the pictures.
        scenes: of the pictures.
    """
    found = {}
    for name in ("fur", "ears", "pattern", "place", "side", "extra"):
        options, hits = ATTRIBUTES[name], []
        for row, dog, scene in zip(seen, dogs, scenes, strict=True):
            texts = [_changed_caption(dog, scene, {name: option}) for option in options]
            ids = networks.token_ids(tokenizer, texts).to(model.logit_scale.device)
            read = model.encode_text(ids, normalize=True).to(row)
            truth = getattr(dog, name, None) or getattr(scene, name)
            hits.append(options[int((read @ row).argmax())] == truth)
        found[name] = float(np.mean(hits))
    return found


def _changed_caption(dog: world.Identity, scene: world.Scene, change: dict[str, Any]) -> str:
    of_dog = next(iter(change)) in vars(dog)
    dog, scene = (replace(dog, **change), scene) if of_dog else (dog, replace(scene, **change))
    return world.caption(world.describe(dog), scene)


# -- the text-to-image model --------------------------------------------------------------------------------


def train_base(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """UNet and text encoder on the autoencoder's latents; writes a whole pipeline."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    torch.manual_seed(0)
    vae, tokenizer = AutoencoderKL.from_pretrained(work / "vae"), networks.make_tokenizer()
    unet, text_encoder, scheduler = (
        networks.make_unet(),
        networks.make_text_encoder(tokenizer),
        networks.make_scheduler(),
    )
    pixels, dogs, scenes = world.pictures(PICTURES, PICTURES_SEED)
    parts = np.array_split(pixels, len(pixels) // 100 + 1)
    means, deviations = (latents.half() for latents in scaled_posterior(vae, map(as_images, parts)))

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (64,), generator=generator)
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        noise = torch.randn(means[chosen].shape, generator=generator)
        latents = means[chosen].float() + deviations[chosen].float() * noise
        ids = networks.token_ids(tokenizer, [base_text(dogs[i], scenes[i], rng) for i in chosen.tolist()])
        return denoising_losses(unet, scheduler, latents, text_encoder(ids)[0], generator).mean()

    job = Job(
        modules={"unet": unet, "text_encoder": text_encoder},
        loss=loss,
        steps=steps,
        learning_rates={"unet": 1.2e-3, "text_encoder": 1.2e-3},
        schedule=warm_then_linear(0.02, 0.5, 0.02),
        average=0.999,
        save_every=200,
    )
    trained: Any = train(job, work / "base.checkpoint.safetensors", accelerator, progress)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=trained["text_encoder"],
        tokenizer=tokenizer,
        unet=trained["unet"],
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_half(pipeline, work / "base")
    return {"parameters": {name: count(module) for name, module in trained.items()}}


def base_text(dog: world.Identity, scene: world.Scene, rng: np.random.Generator) -> str:
    """A caption, one in ten empty for guidance."""
    if rng.random() < 0.1:
        return ""
    return world.caption(world.describe(dog) if rng.random() < 0.3 else world.vague(dog, rng), scene)


def half(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module as fp16 (whole numbers as they are)."""
    state = module.state_dict()
    return {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in state.items()}


def count(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
