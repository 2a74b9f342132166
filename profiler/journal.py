"""The journal of a sweep: one line per visit, flushed, so that a killed run goes on where it was."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ..common.errors import InputError
from ..common.files import make_folder, read_text, whole_file
from .telemetry import Reading
from .timing import Visit

Measured = tuple[Visit, Reading]


class Journal:
    """A JSON-lines file beside the output: a header with the configuration, then the visits.

    Attributes:
        done: the visits of the interrupted run, each with its telemetry.
        used: whether the file holds a visit.

    Args:
        path: the file.
        config: what decides the samples; a journal of another configuration is refused.
        resume: go on with what the file holds; False starts it anew.

    Raises:
        InputError: where the file cannot be written, or holds another configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any], resume: bool) -> None:
        self.path = path
        self.done = self._read(config) if resume and path.exists() else []
        self.used = bool(self.done)
        make_folder(path.parent)
        with whole_file(path) as handle:  # without the line that a kill cut short
            handle.writelines(_line(entry) for entry in [{"config": config}, *map(_entry, self.done)])
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open for the whole sweep

    def add(self, visit: Visit, reading: Reading) -> None:
        """Note a finished visit."""
        self.used = True
        self._write(_entry((visit, reading)))

    def close(self, remove: bool) -> None:
        """End the journal; it is not needed once the profile is written."""
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
            found = json.loads(header)["config"]
        except (ValueError, TypeError, KeyError):
            found = None
        if found != config:
            raise InputError(
                f"{self.path}: {_difference(found, config)}; repeat the old options, or leave out --resume"
            )
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


def _difference(found: Any, config: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "not a journal of hwprof bench"
    changed = [
        f"{key} was {found.get(key)!r} and is {config[key]!r}" for key in config if found.get(key) != config[key]
    ]
    return "the interrupted run had other options: " + ", ".join(changed)
