"""Which models a command runs, and on which device: what the options `--cluster`, `--user`, `--cohort`, `--device` say.

Nothing here loads a model.
"""

import functools
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import data
from ...common.errors import InputError, shown
from ...common.files import read_text
from .checkpoints import Checkpoint, checkpoint_in, read_checkpoint
from .families.base import Model
from .families.known import FAMILIES, family_of_lora
from .headers import SAFETENSORS, read_header
from .hub import hub_file
from .index import read_index
from .lora_names import is_of_kohya
from .model_paths import INDEX, check_model_path
from .schedules import check_same

SETTINGS = "edgesplit.json"
"""A file beside the weights: the subject's words and looks, the base of LoRAs and of checkpoints that lack parts, a
digest of it, and a scale."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The names that a user may have."""
TOY_GUIDANCE = 3.0
CLASS = "dog"
"""Word for the subject of a model that does not say."""
DEVICE = re.compile(r"|cpu|cuda(:[0-9]{1,4})?")
"""The devices that may be named; nothing for the first GPU, if there is one."""
FORMATS = ("fp32", "fp16", "bf16")
"""The number formats that models may have."""
MODULES = ("torch", "diffusers", "transformers", "accelerate", "peft", "open_clip")
"""The modules that every command with models needs; they come with the extra `models`."""


def check_device(name: str) -> None:
    """Refuse the name of a device that cannot be; whether it is there, `pick_device` finds out.

    Raises:
        InputError: naming the option.
    """
    if not DEVICE.fullmatch(name):
        raise InputError(f"--device: found {shown(name)}, accepted: cpu, cuda or cuda:NUMBER")


def pick_device(name: str) -> str:
    """The device to run on: "cpu" or "cuda:NUMBER"; for an empty name the first GPU, if there is one.

    Raises:
        InputError: for a device that is not there.
    """
    check_device(name)
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not name:
        return "cuda:0" if count else "cpu"
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise InputError(f"--device: found {name}, but {count} NVIDIA GPUs are usable here; use --device cpu")
    return f"cuda:{index}"


def check_format(name: str) -> None:
    """Refuse a number format that models cannot have.

    Raises:
        InputError: naming the option.
    """
    if name not in FORMATS:
        raise InputError(f"--dtype: found {shown(name)}, accepted: {', '.join(FORMATS)}")


def model_references(cluster: str | None, users: Sequence[str], cohort: Path | None) -> tuple[str, dict[str, str]]:
    """The cluster-wide model and the users' models that the options name; the toy world's if they name none.

    Args:
        cluster: value of `--cluster`, a folder or a hub id.
        users: value of every `--user`, NAME=MODEL.
        cohort: value of `--cohort`, a folder that `dreambooth` wrote.

    Returns:
        the reference of the cluster-wide model, and user -> reference of the personal model.

    Raises:
        InputError: for options that do not go together.
    """
    if cluster and cohort:
        raise InputError("--cluster: found --cohort as well, accepted: one of the two")
    if cluster:
        if not users:
            raise InputError("--cluster: found no --user, accepted: one NAME=MODEL or more")
        return cluster, {name: os.path.expanduser(model) for name, model in named("--user", users).items()}
    if users:
        raise InputError("--user: found no --cluster, accepted: both, or --cohort FOLDER alone")
    return cohort_models(cohort or data.FOLDER / "toyworld")


def cohort_models(folder: Path) -> tuple[str, dict[str, str]]:
    """The models in a folder that `dreambooth` wrote: the cluster-wide one, and user -> personal one.

    Raises:
        InputError: for a folder without them.
    """
    inner = sorted((folder / "users").glob("*"))
    users = {path.name: str(path) for path in inner if path.is_dir() and not path.name.startswith((".", "__"))}
    if not (folder / "cluster").is_dir() or not users:
        raise InputError(
            f"{folder}: found no finished cohort, accepted: a folder that dreambooth wrote{_instead(folder)}"
        )
    return str(folder / "cluster"), users


def _instead(folder: Path) -> str:
    """What there is in place of a finished cohort, as the end of a message."""
    if not folder.exists():
        return "; there is no such folder"
    if folder.is_file():
        return "; this is a file" + (", name the folder that dreambooth made of it" if folder.suffix == ".toml" else "")
    if (folder / INDEX).is_file():
        return "; this is one model, for --cluster or --user"
    if (folder / "cluster").is_dir():
        return "; it holds a cluster-wide model and no user's"
    return ""


@dataclass(frozen=True)
class Origin:
    """What the weights of a model come from, LoRAs apart.

    Attributes:
        base: folder in diffusers' format or hub id; None where a checkpoint stands alone.
        checkpoint: checkpoint in one file, whose parts take the place of the base's.
    """

    base: str | None
    checkpoint: Checkpoint | None = None

    @property
    def name(self) -> str:
        """Folder, file or hub id, for messages."""
        return str(self.checkpoint.path if self.checkpoint else self.base)

    @property
    def family(self) -> type[Model] | None:
        """The family, as an index or the names of tensors say; None for a hub id out of reach, which loading refuses.

        Raises:
            InputError: for a model of none.
        """
        return self.checkpoint.family if self.checkpoint else _family_of_base(str(self.base))


def check_models(references: Iterable[str]) -> None:
    """Refuse references that name no model, or models of two families, as far as that can be told without loading one.

    Raises:
        InputError: one line.
    """
    kinds: list[tuple[str, str]] = []
    for reference in references:
        origin = origin_of(reference)
        check_origin(origin)
        check_loras(reference, origin)
        kinds += [(reference, origin.family.KIND)] if origin.family else []
    for kind in kinds[1:]:
        check_same("family", kinds[0], kind)


def origin_of(reference: str) -> Origin:
    """What the weights of a model come from.

    Raises:
        InputError: for a damaged note, or one that does not tell.
    """
    base, own = base_of(reference), _checkpoint_at(reference)
    if own:
        return _origin_of_checkpoint(reference, base, own)
    if base and (beneath := _checkpoint_at(base)):
        if lora_files(Path(base)):
            raise InputError(f"{base}: found LoRAs, accepted: a base without; put all LoRAs into one folder")
        return _origin_of_checkpoint(base, base_of(base), beneath)
    return Origin(base or reference)


def _origin_of_checkpoint(place: str, base: str | None, own: Checkpoint) -> Origin:
    """The same of a checkpoint and what its note names as its base, which may be the checkpoint itself."""
    if base is None or not os.path.isfile(base):
        return Origin(base, own)
    if not os.path.samefile(own.path, base):
        found = f"found a file, accepted: a folder or a hub id, as {own.path.name} lies there"
        raise InputError(f"{place}: base: {found}")
    return Origin(None, own)


def _is_noted(folder: Path) -> bool:
    """Whether a folder holds a note and what it is about, LoRAs or a checkpoint, in place of a whole model."""
    return os.path.isfile(folder / SETTINGS) and not os.path.isfile(folder / INDEX)


def _checkpoint_at(reference: str) -> Checkpoint | None:
    """The checkpoint that a reference names: the file, or the one in a folder with a note."""
    path = Path(reference)
    if os.path.isfile(path):
        return read_checkpoint(path)
    return checkpoint_in(path) if _is_noted(path) else None


def check_origin(origin: Origin) -> None:
    """Refuse what is no whole model, or a checkpoint and a base of two families.

    Raises:
        InputError: one line.
    """
    checkpoint = origin.checkpoint
    if origin.base is not None:
        check_model_path(origin.base)
        family = _family_of_base(origin.base)
        if checkpoint and family and checkpoint.family is not family:
            found = f"found a checkpoint of {checkpoint.family.KIND}"
            raise InputError(f"{origin.name}: {found}; its base {origin.base} is {family.KIND}; name one of its family")
    elif checkpoint and (lacks := checkpoint.lacks):
        raise InputError(
            f"{origin.name}: a checkpoint of {checkpoint.family.KIND} {lacks}; put it into a folder with {SETTINGS}, "
            'which says {"base": "A WHOLE MODEL"}, and name that folder'
        )


def check_loras(reference: str, origin: Origin) -> None:
    """Refuse a LoRA of another family than its base, where its names and shapes tell, or with names of no use there.

    Raises:
        InputError: naming the family.
    """
    base = origin.family
    for path in lora_files(Path(reference)):
        header = read_header(path)
        own = family_of_lora(header)
        if own and base and own is not base:
            raise InputError(
                f"{path}: a LoRA of {own.KIND}; its base {origin.name} is {base.KIND}; name one of its family"
            )
        if base and is_of_kohya(header) and not base.READS_KOHYA:
            raise InputError(
                f"{path}: a LoRA with the names of kohya's trainers, which diffusers does not read for {base.KIND}; "
                "convert it to the names of diffusers"
            )


def has_loras(reference: str, origin: Origin) -> bool:
    """Whether LoRAs lie beside a note: files, or the folders that `dreambooth` writes, which alone need a base."""
    folder = Path(reference)
    beside = origin.checkpoint is not None and origin.checkpoint.path.parent == folder
    return bool(lora_files(folder)) or (base_of(reference) is not None and not beside)


def lora_files(folder: Path) -> list[Path]:
    """The LoRAs in a folder with a note, in the order of their names: what is no checkpoint."""
    paths = sorted(path for path in folder.glob(f"*{SAFETENSORS}") if path.is_file()) if _is_noted(folder) else []
    return [path for path in paths if read_checkpoint(path) is None]


def base_of(reference: str) -> str | None:
    """The base that a note in a model's folder names; None for another model."""
    base = read_settings(Path(reference)).get("base")
    return model_folder(Path(reference), base) if base else None


def family_at(reference: str) -> type[Model]:
    """The family of a model, as its files say; the oldest one for a hub id out of reach, which loading refuses.

    Raises:
        InputError: for a model of none.
    """
    return origin_of(reference).family or FAMILIES[0]


def _family_of_base(base: str) -> type[Model] | None:
    path = Path(base, INDEX) if os.path.isdir(base) else _index_on_hub(base)
    return read_index(base, path)[0] if path else None


@functools.cache
def _index_on_hub(repository: str) -> Path | None:
    """The index of a model on the hub; None where it is out of reach, so that each model is waited for once."""
    try:
        return hub_file(repository, INDEX)
    except OSError:
        return None


def usual_scheduler(reference: str, scheduler: str | None) -> str:
    """The scheduler that an option names; without one, the usual one of a model's family."""
    return scheduler or family_at(reference).SCHEDULERS[0]


def usual_guidance(reference: str, guidance: float | None, toy: bool) -> float:
    """The guidance scale that an option gives; without one, the usual one of the toy world or of a model's family."""
    if guidance is not None:
        return guidance
    return TOY_GUIDANCE if toy else family_at(reference).USUAL_GUIDANCE


def named(option: str, texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts as a dictionary.

    Raises:
        InputError: for a text of another form, or a name that stands twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not NAME.fullmatch(name) or not value or name in pairs:
            raise InputError(
                f"{option}: found {shown(text)}, accepted: NAME=VALUE, each name once, of letters, "
                "digits, dots, - and _"
            )
        pairs[name] = value
    return pairs


def names_subject(reference: str) -> bool:
    """Whether a model's folder says which words stand for its subject."""
    return bool(read_settings(Path(reference)).get("subject"))


def subjects(references: Iterable[str]) -> list[str]:
    """The words that stand for the subject in prompts of these models, each once."""
    return list(dict.fromkeys(read_settings(Path(reference)).get("subject") or CLASS for reference in references))


def read_settings(folder: Path) -> dict[str, str]:
    """What `dreambooth` noted beside the weights; empty for a model that something else made.

    Raises:
        InputError: for a file of settings that is damaged.
    """
    path = folder / SETTINGS
    if not os.path.isfile(path):  # whatever the path: other names are refused elsewhere
        return {}
    try:
        settings = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); run dreambooth again") from error
    if isinstance(settings, dict) and isinstance(settings.get("scale"), int | float):
        settings["scale"] = str(settings["scale"])
    keys = ("base", "base_digest", "description", "scale", "subject")
    if not isinstance(settings, dict) or not all(isinstance(settings.get(key, ""), str) for key in keys):
        raise InputError(f"{path}: found no settings, accepted: {', '.join(keys)} as text; run dreambooth again")
    return settings


def model_folder(folder: Path, base: str) -> str:
    """The base in a note: a folder or file relative to the note's folder, a model of the toy world, or a hub id."""
    beside = os.path.realpath(folder / base) if "\0" not in base else ""
    return beside if os.path.exists(beside) else data.located(base)
