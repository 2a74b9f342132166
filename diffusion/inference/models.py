"""A text-to-image model as hybrid inference needs it, and how it is loaded: safetensors only, never a pickle."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.errors import InputError, shown
from ...common.files import whole_file
from .gpu import check_bf16
from .lora import merge_lora
from .parts import load_parts, longest_prompt
from .references import CLASS, FORMATS, model_folder, read_settings
from .sampling import Sampling
from .schedules import agreed, check_same
from .templates import fill
from .weights import check_range, is_finite

DTYPES = dict(zip(FORMATS, (torch.float32, torch.float16, torch.bfloat16), strict=True))


@dataclass(frozen=True, kw_only=True)
class Model:
    """The parts of a Stable Diffusion model.

    Attributes:
        name: folder or hub id, for messages.
        unet: network that predicts the noise.
        text_encoder: network that turns tokens into embeddings.
        tokenizer: what turns prompts into tokens.
        vae: autoencoder between pictures and latents.
        scheduler_config: what the model's file says of the scheduler that it was trained with.
        subject: words that stand for `{subject}` in a prompt template, such as "dog" or "sks dog".
    """

    name: str
    unet: Any
    text_encoder: Any
    tokenizer: Any
    vae: Any
    scheduler_config: dict[str, Any]
    subject: str

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        device: torch.device = self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents at the model's own resolution."""
        side = self.unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return self.unet.config.in_channels, height, width

    @property
    def picture_side(self) -> int:
        """Side of the pictures at the model's own resolution, in pixels."""
        factor: int = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return factor * self.latent_shape[-1]

    def prompt(self, template: str) -> str:
        """The prompt that a template becomes with this model's words for the subject."""
        return fill(template, self.subject)

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Padded token ids, shape (prompts, tokens).

        Raises:
            InputError: for a prompt that is too long, or with a word that the tokenizer does not know.
        """
        most = longest_prompt(self.tokenizer, self.text_encoder)
        for prompt in prompts:
            self._check_prompt(prompt, most)
        padded = self.tokenizer(list(prompts), padding="max_length", max_length=most, return_tensors="pt")
        ids: Tensor = padded.input_ids
        return ids

    def _check_prompt(self, prompt: str, most: int) -> None:
        ids = self.tokenizer(prompt).input_ids
        if len(ids) > most:
            raise InputError(
                f"prompt {shown(prompt)}: found {len(ids) - 2} tokens, accepted: {most - 2} (nothing is cut "
                "silently); shorten it"
            )
        if self.tokenizer.unk_token_id in ids[1:-1]:
            raise InputError(f"prompt {shown(prompt)}: holds what the tokenizer of {self.name} does not know")

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings, shape (prompts, tokens, width); each different prompt is encoded once."""
        unique = list(dict.fromkeys(prompts))
        encoded: Tensor = self.text_encoder(self.tokens(unique).to(self.device))[0]
        return encoded[[unique.index(prompt) for prompt in prompts]]

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents, shape (b, 3, height, width), values 0 to 1.

        Raises:
            InputError: for pictures with NaN or infinity.
        """
        images: Tensor = self.vae.decode(latents.to(self.device, self.dtype) / self.vae.config.scaling_factor).sample
        if not is_finite(images):
            remedy = "try --dtype fp32 or bf16" if self.dtype == torch.float16 else "its weights are damaged"
            raise InputError(f"{self.name}: its vae made a picture that is not finite; {remedy}")
        return (images.float() / 2 + 0.5).clamp(0, 1)


def torch_dtype(name: str) -> torch.dtype:
    """The number format of a name.

    Raises:
        InputError: for a name that is not in `DTYPES`.
    """
    if name not in DTYPES:
        raise InputError(f"dtype: found {shown(name)}, accepted: {', '.join(DTYPES)}")
    return DTYPES[name]


def weights_digest(*modules: Any) -> str:
    """A hash of the weights of modules, taken as fp32: the same on every device and in every memory format."""
    digest = hashlib.sha256()
    for module in modules:
        for name, weight in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.float().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def load_model(reference: str | Path, *, subject: str | None = None, dtype: str = "fp32", device: str = "cpu") -> Model:
    """Load a diffusers folder, a hub id, or a folder with a LoRA and the name of its base.

    Args:
        reference: folder or hub id of the model.
        subject: words for `{subject}`; None for those that `dreambooth` stored, or "dog" where it stored none.
        dtype: number format of the weights, "fp16", "bf16" or "fp32".
        device: device to load it onto, such as "cpu" or "cuda:0".

    Raises:
        InputError: one line, for anything that is not a Stable Diffusion 1.x or 2.x model in safetensors; for bf16 on
            a GPU that lacks it.
    """
    settings, number_format = read_settings(Path(reference)), torch_dtype(dtype)
    if dtype == "bf16":
        check_bf16(device, "dtype: ")
    base = settings.get("base")
    parts = load_parts(model_folder(Path(reference), base) if base else str(reference))
    if base:
        _check_base(reference, settings, parts)
        parts |= merge_lora(parts, Path(reference))
    for name in ("unet", "text_encoder", "vae"):
        check_range(f"{reference}: {name}", parts[name], number_format)
        parts[name] = parts[name].to(device, number_format).eval().requires_grad_(False)
    for name in ("unet", "vae"):  # convolutions are up to half as fast again in this memory format
        parts[name] = parts[name].to(memory_format=torch.channels_last)
    return Model(name=str(reference), subject=subject or settings.get("subject") or CLASS, **parts)


def make_pipeline(*, unet: Any, text_encoder: Any, tokenizer: Any, vae: Any, scheduler: Any) -> Any:
    """A `StableDiffusionPipeline` of its parts, without a safety checker."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        vae=vae,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_half(pipeline: Any, folder: Path) -> None:
    """Save a pipeline's weights as fp16, in files that load in any number format, by default in fp32.

    Transformers loads a text encoder in the format of its file and diffusers everything else in fp32, which would not
    fit together; so the text encoder's configuration asks for fp32. No configuration keeps the path that a part was
    loaded from on this machine.
    """
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        if path.parent.name == "text_encoder":
            config["dtype"] = "float32"
        with whole_file(path) as handle:
            handle.write(json.dumps(config, indent=2, sort_keys=True) + "\n")


def paired(edge: Model, personal: Sequence[Model], sampling: Sampling) -> tuple[Model, list[Model]]:
    """Models that take the same steps: what one of them says of its scheduler holds for those that do not say.

    Returns:
        the edge's model, and the personal ones in their order.

    Raises:
        InputError: naming two models that cannot hand off and what differs, before any step runs.
    """
    for model in personal:
        check_same("latent shape", (edge.name, edge.latent_shape), (model.name, model.latent_shape))
        scales = [(m.name, m.vae.config.scaling_factor) for m in (edge, model)]
        check_same("latent scale", *scales)
    models = [edge, *personal]
    decisive = {option for model in models for option in _decisive(model, sampling)}
    config = agreed([(model.name, model.scheduler_config) for model in models], decisive)
    first, *others = (replace(model, scheduler_config=config) for model in models)
    return first, others


def _decisive(model: Model, sampling: Sampling) -> Collection[str]:
    """The options that decide the steps of a model."""
    try:
        return sampling.decisive(model.scheduler_config)
    except InputError as error:
        raise InputError(f"{model.name}: {error}") from error


def _check_base(reference: str | Path, settings: dict[str, str], parts: dict[str, Any]) -> None:
    """Refuse a base whose weights are not those that the LoRA was made for; LoRAs from elsewhere do not name them."""
    made_for = settings.get("base_digest")
    if made_for and made_for != (digest := weights_digest(parts["unet"], parts["text_encoder"])):
        raise InputError(
            f"{reference}: its LoRA was made for a base with weights {made_for}, and {settings['base']} has {digest}; "
            "use the base it was made for"
        )
