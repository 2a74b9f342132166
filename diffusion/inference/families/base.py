"""A text-to-image model as hybrid inference needs it: the interface of all families."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ....common.errors import InputError, shown
from ..sampling import DENOISING
from ..schedules import said
from ..templates import fill
from .one_file import Stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..headers import Header

Conditions = Mapping[str, "Tensor"]
"""What a network is told beside latents and timestep, by name; one row for each image."""
LARGEST_SIDE = 4096
"""The largest side of the latents that a model may have."""
FEWEST_TOKENS = 3
"""Begin, end, and one word."""
RGB = 3


@dataclass(frozen=True)
class Part:
    """What a part of a model's folder is.

    Attributes:
        library: library whose class it is, "diffusers" or "transformers".
        classes: names that its class may have there; the first is the one that is made of it.
        optional: whether a model may lack it.
    """

    library: str
    classes: tuple[str, ...]
    optional: bool = False

    @property
    def stem(self) -> str:
        """Name of the file with its weights, without the suffix."""
        return "diffusion_pytorch_model" if self.library == "diffusers" else "model"

    @property
    def is_tokenizer(self) -> bool:
        """Whether it has a vocabulary in place of weights."""
        return "Tokenizer" in self.classes[0]


CLIP_TEXT = Part("transformers", ("CLIPTextModel",))
CLIP_TEXT_PROJECTED = Part("transformers", ("CLIPTextModelWithProjection",))
CLIP_TOKENS = Part("transformers", ("CLIPTokenizer", "CLIPTokenizerFast"))
T5_TEXT = Part("transformers", ("T5EncoderModel",))
T5_TOKENS = Part("transformers", ("T5Tokenizer", "T5TokenizerFast"))
UNET = Part("diffusers", ("UNet2DConditionModel",))
VAE = Part("diffusers", ("AutoencoderKL",))


@dataclass(frozen=True, kw_only=True)
class Model(ABC):
    """The parts of a model; a family adds its own as fields, by the names of their folders.

    Attributes:
        name: folder or hub id, for messages.
        vae: autoencoder between pictures and latents.
        scheduler_config: what the model's file says of the scheduler that it was trained with.
        subject: words that stand for `{subject}` in a prompt template, such as "dog" or "sks dog".
        latent_size: height and width of the latents; None for those of the model's own resolution.
    """

    name: str
    vae: Any
    scheduler_config: dict[str, Any]
    subject: str
    latent_size: tuple[int, int] | None = None

    KIND: ClassVar[str]
    """What people call the family."""
    PIPELINES: ClassVar[tuple[str, ...]]
    """Names of its pipelines in diffusers; the first one is made of its parts."""
    PARTS: ClassVar[Mapping[str, Part]]
    """The parts of its folder: name -> what it is."""
    NETWORK: ClassVar[str]
    """The part that takes the steps."""
    SCHEDULERS: ClassVar[tuple[str, ...]] = DENOISING
    """Schedulers that may run it; the first one is usual."""
    USUAL_GUIDANCE: ClassVar[float] = 7.5
    """The guidance scale that its pipeline has by default."""
    DOUBLES: ClassVar[bool] = True
    """Whether guidance shows the network every image twice, with and without its prompt."""
    SIDE: ClassVar[int] = 128
    """Side of the latents where the network's configuration does not say."""
    T5_LENGTH: ClassVar[int] = 512
    """Tokens of a prompt for a T5, as its pipeline takes them; a T5 has no positions that could run out."""
    UPCASTS_VAE: ClassVar[bool] = False
    """Whether its autoencoder computes in fp32 where the model does in fp16, as its configuration asks."""
    READS_KOHYA: ClassVar[bool] = True
    """Whether diffusers knows the names that kohya's trainers give the layers of its LoRAs."""
    IN_ONE_FILE: ClassVar[Mapping[str, tuple[Stored, ...]]] = {}
    """The places where a checkpoint in one file may have a part: name -> places."""

    # -- what a family says ---------------------------------------------------------------------------------

    @classmethod
    def words_of_scheduler(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """What holds of the configuration in a model's folder."""
        return said(config)

    @classmethod
    def mended(cls, part: str, config: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """A part's configuration, less what is known to be wrong in old files."""
        return config

    @classmethod
    def number_format(cls, part: str, config: Mapping[str, Any], wanted: "torch.dtype") -> "torch.dtype":
        """The number format of a part: fp32 for an autoencoder whose numbers grow too large for fp16."""
        import torch

        upcasts = part == "vae" and cls.UPCASTS_VAE and config.get("force_upcast", True)
        return torch.float32 if upcasts and wanted == torch.float16 else wanted

    @property
    def own_latent_size(self) -> tuple[int, int]:
        """Height and width of the latents at the model's own resolution, as its network's configuration says."""
        side = self.network.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return height, width

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Conditions:
        """The conditions of prompts, a row for each."""

    def encode_nothing(self, negative_prompt: str) -> Conditions:
        """The conditions that guidance leads away from, one row."""
        return self.encode([negative_prompt])

    def is_doubled(self, guidance: float) -> bool:
        """Whether the network sees every image with and without its prompt."""
        return self.DOUBLES and guidance > 1

    def with_guidance(self, conditions: Conditions, guidance: float) -> Conditions:  # noqa: ARG002
        """The conditions with the guidance scale in them, for networks that are told it."""
        return conditions

    @staticmethod
    @abstractmethod
    def predict(network: Any, x: "Tensor", t: "Tensor", conditions: Conditions) -> "Tensor":
        """One pass of the network.

        Args:
            network: the part that takes the steps.
            x: x_t as the scheduler scaled it, shape (b, channels, height, width).
            t: timesteps, shape (b,).
            conditions: b rows.

        Returns:
            the prediction, in the shape of x.
        """

    @abstractmethod
    def network_faults(self) -> Iterator[tuple[str, str, str]]:
        """What of the network does not fit the other parts: the place, what was found, and what is accepted."""

    # -- what the header of a file tells alone ----------------------------------------------------------------

    @classmethod
    def stored(cls, part: str, header: "Header") -> Stored | None:
        """Where a checkpoint in one file has a part; None where it lacks it."""
        places = cls.IN_ONE_FILE.get(part, ())
        return next((place for place in places if place.prefix + place.sign in header.shapes), None)

    @classmethod
    def is_in(cls, header: "Header") -> bool:
        """Whether a file is a checkpoint of the family, by the names of its network's tensors."""
        return cls.stored(cls.NETWORK, header) is not None

    @classmethod
    def network_shapes(cls, header: "Header") -> dict[str, tuple[int, ...]]:
        """Shapes of the network's tensors in a checkpoint, by their names there less the prefix."""
        place = cls.stored(cls.NETWORK, header)
        return header.below(place.prefix) if place else {}

    @classmethod
    def shipped_as(cls, header: "Header") -> str | None:  # noqa: ARG003
        """Name of the shipped description of a checkpoint's parts; None for a size that is not shipped."""
        return None

    @classmethod
    def other_purpose(cls, header: "Header") -> str | None:  # noqa: ARG003
        """What a checkpoint of the family is, where it is not for pictures of prompts alone."""
        return None

    @classmethod
    def scheduler_in(cls, header: "Header") -> dict[str, Any]:  # noqa: ARG003
        """What a checkpoint itself says of its scheduler."""
        return {}

    @classmethod
    def is_of_lora(cls, header: "Header") -> bool:  # noqa: ARG003
        """Whether a LoRA is one for the family, by the names and shapes of its tensors."""
        return False

    # -- what the configuration of a network tells alone, for networks with random weights ----------------------

    @classmethod
    def takes(cls, config: Mapping[str, Any]) -> bool:  # noqa: ARG003
        """Whether a network of the family's class is told no more than the family's prompts, and needs no picture."""
        return True

    @classmethod
    def channels_of(cls, config: Mapping[str, Any]) -> int:
        """Channels of the latents."""
        return int(config["in_channels"])

    @classmethod
    def side_step(cls, config: Mapping[str, Any]) -> int:
        """The number of which the latents' sides are multiples; a transformer's patches are squares of so many."""
        return int(config.get("patch_size") or 2)

    @classmethod
    def most_side(cls, config: Mapping[str, Any]) -> int:  # noqa: ARG003
        """The largest side of the latents."""
        return LARGEST_SIDE

    @classmethod
    @abstractmethod
    def drawn_conditions(
        cls, config: Mapping[str, Any], rows: int, size: tuple[int, int], place: Mapping[str, Any]
    ) -> Conditions:
        """Random conditions for a network, in the shapes that prompts have.

        Args:
            config: configuration of the network, with all its options.
            rows: number of rows.
            size: height and width of the pictures, pixels.
            place: device and dtype of the conditions, in torch's words.
        """

    # -- what all have ----------------------------------------------------------------------------------------

    @property
    def network(self) -> Any:
        """The part that takes the steps."""
        return getattr(self, self.NETWORK)

    @property
    def networks(self) -> dict[str, Any]:
        """Every part with weights, by its name."""
        return {name: part for name, part in self.parts.items() if not self.PARTS[name].is_tokenizer}

    @property
    def parts(self) -> dict[str, Any]:
        """Every part, by its name; those that the model lacks are left out."""
        return {name: part for name in self.PARTS if (part := getattr(self, name)) is not None}

    @property
    def text_encoders(self) -> dict[str, Any]:
        """Every text encoder, by its name."""
        return {name: part for name, part in self.networks.items() if name.startswith("text_encoder")}

    @property
    def device(self) -> "torch.device":
        """The device that the model is on."""
        device: torch.device = self.network.device
        return device

    @property
    def dtype(self) -> "torch.dtype":
        """The number format of the weights."""
        dtype: torch.dtype = self.network.dtype
        return dtype

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        channels: int = self.vae.config.latent_channels
        return channels

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        return self.channels, *(self.latent_size or self.own_latent_size)

    @property
    def vae_factor(self) -> int:
        """Pixels of a picture to one of its latents, along a side."""
        factor: int = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return factor

    @property
    def picture_side(self) -> int:
        """Width of the pictures, in pixels."""
        return self.vae_factor * self.latent_shape[-1]

    def prompt(self, template: str) -> str:
        """The prompt that a template becomes with this model's words for the subject."""
        return fill(template, self.subject)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuse what a tokenizer of the model would cut or does not know.

        Raises:
            InputError: naming the prompt.
        """
        for name, tokenizer in self.parts.items():
            if self.PARTS[name].is_tokenizer:
                for prompt in prompts:
                    self._check_prompt(prompt, tokenizer, self.longest_prompt(name))

    def longest_prompt(self, tokenizer: str) -> int:
        """The most tokens of a prompt, begin and end among them; a tokenizer's file does not always say."""
        if self.PARTS[tokenizer].classes == T5_TOKENS.classes:
            return self.T5_LENGTH
        positions = self._encoder_of(tokenizer).config.max_position_embeddings
        return int(min(getattr(self, tokenizer).model_max_length, positions))

    def _encoder_of(self, tokenizer: str) -> Any:
        return getattr(self, tokenizer.replace("tokenizer", "text_encoder"))

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """What does not fit together: the place, what was found there, and what is accepted."""
        yield from self.network_faults()
        yield from vae_faults(self.vae.config)
        for name, part in self.parts.items():
            if self.PARTS[name].is_tokenizer:
                yield from tokenizer_faults(name, part, self._encoder_of(name).config)

    def clip_states(self, prompts: Sequence[str]) -> "tuple[Tensor, list[Tensor]]":
        """What two CLIPs make of prompts: their last but one states side by side, and the embedding of each."""
        import torch

        made = [
            getattr(self, f"text_encoder{number}")(
                self.padded(f"tokenizer{number}", prompts).input_ids, output_hidden_states=True
            )
            for number in ("", "_2")
        ]
        return torch.cat([each.hidden_states[-2] for each in made], dim=-1), [each[0] for each in made]

    def as_read(self, prompt: str) -> str:
        """A prompt as the tokenizers get it."""
        return prompt

    def _check_prompt(self, prompt: str, tokenizer: Any, most: int) -> None:
        ids = tokenizer(self.as_read(prompt), add_special_tokens=False).input_ids
        accepted = most - tokenizer.num_special_tokens_to_add()
        if len(ids) > accepted:
            raise InputError(
                f"prompt {shown(prompt)}: found {len(ids)} tokens, accepted: {accepted} (nothing is cut "
                "silently); shorten it"
            )
        if tokenizer.unk_token_id in ids:
            raise InputError(f"prompt {shown(prompt)}: holds what the tokenizer of {self.name} does not know")

    def padded(self, tokenizer: str, prompts: Sequence[str]) -> Any:
        """Token ids, shape (prompts, tokens), and the mask of those that are no padding, on the model's device."""
        most = self.longest_prompt(tokenizer)
        padded = getattr(self, tokenizer)(list(prompts), padding="max_length", max_length=most, return_tensors="pt")
        return padded.to(self.device)

    def decode(self, latents: "Tensor") -> "Tensor":
        """Pictures of latents, shape (b, 3, height, width), values 0 to 1.

        Raises:
            InputError: for pictures with NaN or infinity.
        """
        import torch

        from ..weights import is_finite

        with torch.inference_mode():
            images: Tensor = self.vae.decode(self._unscaled(latents.to(self.device, self.vae.dtype))).sample
        if not is_finite(images):
            remedy = "try --dtype fp32 or bf16" if self.dtype == torch.float16 else "its weights are damaged"
            raise InputError(f"{self.name}: its vae made a picture that is not finite; {remedy}")
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def scale_of(self, latents: "Tensor") -> tuple[Any, Any]:
        """Shift s and factor f: a network takes f (z - s) where the autoencoder has z."""
        import torch

        config = self.vae.config
        mean, deviation = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
        if mean is None or deviation is None:
            return getattr(config, "shift_factor", None) or 0.0, config.scaling_factor
        mean, deviation = (
            torch.tensor(numbers).view(1, -1, 1, 1).to(latents.device, latents.dtype) for numbers in (mean, deviation)
        )
        return mean, config.scaling_factor / deviation

    def _unscaled(self, latents: "Tensor") -> "Tensor":
        """Latents as the autoencoder has them."""
        shift, factor = self.scale_of(latents)
        unscaled: Tensor = latents / factor + shift
        return unscaled


# -- what families ask of their parts -----------------------------------------------------------------------------


def size_faults(network: str, side: Any) -> Iterator[tuple[str, str, str]]:
    """Sides of latents that no model has."""
    sides = side if isinstance(side, list | tuple) else [side]
    if not (1 <= len(sides) <= 2 and all(type(each) is int and 0 < each <= LARGEST_SIDE for each in sides)):
        yield network, f"sample_size {shown(side)}", f"the latents' side in pixels, up to {LARGEST_SIDE}"


def vae_faults(vae: Any) -> Iterator[tuple[str, str, str]]:
    """What an autoencoder cannot be."""
    if vae.out_channels != RGB:
        yield "vae", f"{vae.out_channels} colours", "3"
    if not (isinstance(vae.scaling_factor, int | float) and 0 < vae.scaling_factor < float("inf")):
        yield "vae", f"scaling_factor {shown(vae.scaling_factor)}", "a number above 0"


def tokenizer_faults(name: str, tokenizer: Any, text: Any) -> Iterator[tuple[str, str, str]]:
    """What a tokenizer and the configuration of its text encoder cannot be together."""
    if len(tokenizer) < FEWEST_TOKENS:
        yield name, "no vocabulary", "a folder with tokenizer.json, or vocab.json and merges.txt"
    if len(tokenizer) > text.vocab_size:
        yield name, f"{len(tokenizer)} tokens", f"no more than its text encoder has, {text.vocab_size}"
    if tokenizer.pad_token_id is None:
        yield name, "no pad_token", "one, such as '<|endoftext|>'"


def width_fault(what: str, found: Any, accepted: int, of: str) -> Iterator[tuple[str, str, str]]:
    """A network that expects embeddings of another width than its text encoders make."""
    part, _, option = what.partition(".")
    if found != accepted:
        yield part, f"{option} {shown(found)}", f"{of} {accepted}"
