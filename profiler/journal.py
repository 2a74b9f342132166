"""The journal of a measurement: one flushed line per visit, so that a run that was killed can go on where it was."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ..common.errors import InputError
from ..common.files import make_folder, read_text, whole_file
from .telemetry import Reading
from .timing import Visit

Measured = tuple[Visit, Reading]


class Journal:
    """A JSON-lines file beside the output: a header with the configuration, then the visits.

    Used in a `with` statement, it removes its file at the end, when the profile is written; after an error the file
    stays if it holds a visit.

    Attributes:
        done: visits of the interrupted run, each with its telemetry.
        used: whether the file holds a visit.

    Args:
        path: file of the journal.
        config: what the samples depend on; a journal of another configuration is refused.
        resume: whether to go on with what the file holds, or to begin it anew.

    Raises:
        InputError: where the file cannot be written, or holds another configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any], resume: bool) -> None:
        self.path = path
        self.done = self._read(config) if resume and path.exists() else []
        self.used = bool(self.done)
        make_folder(path.parent)
        with whole_file(path) as handle:  # leaves out the line that a kill cut short
            handle.writelines(_line(entry) for entry in [{"config": config}, *map(_entry, self.done)])
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open for the whole sweep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(remove=kind is None or not self.used)

    def add(self, visit: Visit, reading: Reading) -> None:
        """Note a finished visit."""
        self.used = True
        self._write(_entry((visit, reading)))

    def close(self, remove: bool) -> None:
        """Close the file and, if asked, remove it."""
        self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(_line(entry))
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path}: cannot write: {error.strerror}; free some space and --resume") from error

    def _read(self, config: dict[str, Any]) -> list[Measured]:
        header, *lines = read_text(self.path).splitlines() or [""]
        try:
            old = json.loads(header)["config"]
        except (ValueError, TypeError, KeyError):
            old = None
        if old != config:
            raise InputError(f"{self.path}: {_difference(old, config)}; repeat the old options, or leave out --resume")
        return list(_whole(lines))


def _whole(lines: Sequence[str]) -> Iterator[Measured]:
    """The visits up to the line that was being written when the run was killed."""
    for line in lines:
        try:
            entry = json.loads(line)
            yield Visit(**entry["visit"]), Reading(**entry["reading"])
        except (ValueError, TypeError, KeyError):
            return


def _entry(measured: Measured) -> dict[str, Any]:
    visit, reading = measured
    return {"visit": vars(visit), "reading": reading.as_json()}


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _difference(old: Any, config: dict[str, Any]) -> str:
    """What differs between the interrupted run's configuration and this one's."""
    if not isinstance(old, dict):
        return "not a journal of hwprof bench"
    changed = [f"{key} was {old.get(key)!r} and is {config[key]!r}" for key in config if old.get(key) != config[key]]
    return "the interrupted run had other options: " + ", ".join(changed)
