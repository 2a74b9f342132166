"""What the parts of a model are loaded from: a folder in diffusers' format, or a checkpoint in one file."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.errors import InputError
from .checkpoints import Checkpoint
from .clip_tokenizer import clip_tokenizer
from .families.base import Model
from .families.one_file import Tensors, as_it_is
from .hub import hub_file, hub_model
from .index import read_index, read_object, unloadable
from .model_paths import INDEX
from .references import Origin
from .weights import read_tensors, weight_files


@dataclass(frozen=True)
class Weights:
    """The weights of a part, as they lie in files; they take no memory before they are read.

    Attributes:
        place: file or folder, for messages.
        tensors: tensors by their names there.
        convert: function that turns them and the network without weights into the network's state, by its names.
    """

    place: Path
    tensors: Tensors
    convert: Callable[[Tensors, Any], Tensors] = as_it_is


class ModelSource(ABC):
    """The parts of a model.

    Attributes:
        family: family of the model.
        index: what its index says.
    """

    family: type[Model]
    index: dict[str, Any]

    @abstractmethod
    def has(self, part: str) -> bool:
        """Whether the model has a part."""

    @abstractmethod
    def scheduler(self) -> dict[str, Any]:
        """The configuration of the scheduler that it was trained with."""

    @abstractmethod
    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a network."""

    @abstractmethod
    def weights(self, part: str) -> Weights:
        """The weights of a network."""

    @abstractmethod
    def tokenizer(self, part: str) -> Any:
        """A tokenizer."""


def source_of(origin: Origin) -> ModelSource:
    """What the parts of a model are loaded from.

    Raises:
        InputError: for an index or a file that does not tell.
    """
    checkpoint = origin.checkpoint
    held = [part for part in checkpoint.family.PARTS if checkpoint.has(part)] if checkpoint else []
    base = DiffusersFolder(origin.base, held) if origin.base else None
    if checkpoint:
        return OneFile(checkpoint, base)
    assert base is not None  # noqa: S101 - an origin has one or the other
    return base


# -- a folder -----------------------------------------------------------------------------------------------


class DiffusersFolder(ModelSource):
    """A folder in diffusers' format, here or on the hub."""

    def __init__(self, reference: str, held: list[str]) -> None:
        """Read the index of a model.

        Args:
            reference: the folder, or a hub id.
            held: parts that a checkpoint holds, so that their weights need not come from the hub.

        Raises:
            InputError: for an index that names other classes than its family has, or a model out of reach.
        """
        self.name = reference
        if Path(reference).is_dir():
            self.folder = Path(reference)
            self.family, self.index = read_index(reference, self.folder / INDEX)
            return
        try:
            self.family, self.index = read_index(reference, hub_file(reference, INDEX))
            self.folder = hub_model(reference, self.family.NETWORK, held)
        except OSError as error:
            raise unloadable(reference, error) from error

    def has(self, part: str) -> bool:
        """As the index says."""
        named = self.index.get(part)
        return bool(named and (not isinstance(named, list) or named[-1]))

    def scheduler(self) -> dict[str, Any]:
        """From the scheduler's folder."""
        return read_object(self.name, self.folder / "scheduler" / "scheduler_config.json")

    def config(self, part: str) -> dict[str, Any]:
        """From the part's folder, less what is known to be wrong in old files."""
        return self.family.mended(part, read_object(str(self.folder / part), self.folder / part / "config.json"))

    def weights(self, part: str) -> Weights:
        """From one or several files in the part's folder."""
        files = weight_files(self.folder / part, self.family.PARTS[part].stem)
        return Weights(files[0] if len(files) == 1 else self.folder / part, read_tensors(files))

    def tokenizer(self, part: str) -> Any:
        """From the part's folder."""
        import transformers

        folder = self.folder / part
        if not folder.is_dir():  # a relative path could be taken for a hub id
            raise InputError(f"{folder}: no such folder; name a folder with all parts of a model")
        try:
            return getattr(transformers, self.family.PARTS[part].classes[0]).from_pretrained(folder)
        except Exception as error:  # whatever its files make it raise
            raise unloadable(folder, error) from error


# -- one file -----------------------------------------------------------------------------------------------


class OneFile(ModelSource):
    """A checkpoint in one file, on a base that has what the file lacks, or on what ships of a published model."""

    def __init__(self, checkpoint: Checkpoint, base: DiffusersFolder | None) -> None:
        self.family, self._checkpoint, self._base = checkpoint.family, checkpoint, base
        self._shipped = checkpoint.shipped
        self.index = base.index if base else self._shipped.index if self._shipped else {}

    def has(self, part: str) -> bool:
        """As the base's index says; without a base, all that the family needs and the file holds."""
        return self._base.has(part) if self._base else self._checkpoint.takes(part)

    def scheduler(self) -> dict[str, Any]:
        """The base's or the published one, and what the file itself says."""
        known = self._base.scheduler() if self._base else self.index["scheduler"]
        return known | self.family.scheduler_in(self._checkpoint.header)

    def config(self, part: str) -> dict[str, Any]:
        """The base's or the published one."""
        return self._base.config(part) if self._base else self._described(part)

    def weights(self, part: str) -> Weights:
        """The file's, and the base's where it has none."""
        path, stored = self._checkpoint.path, self.family.stored(part, self._checkpoint.header)
        if stored is None and self._base:
            return self._base.weights(part)
        assert stored is not None  # noqa: S101 - checked before, see `Checkpoint.missing`
        return Weights(path, read_tensors([path], stored.prefix), stored.convert)

    def tokenizer(self, part: str) -> Any:
        """The base's; CLIP's own without one."""
        return self._base.tokenizer(part) if self._base else clip_tokenizer(**self._described(part))

    def _described(self, part: str) -> dict[str, Any]:
        config = self._shipped.part(part) if self._shipped else None
        assert config is not None  # noqa: S101 - checked before, see `Checkpoint.missing`
        return config
