"""The journal of a sweep: one line per visit, flushed, so that a killed run goes on where it was."""

import json
from pathlib import Path
from typing import IO, Any

from ..common.errors import InputError
from ..common.files import make_folder, whole_file
from .telemetry import Reading
from .timing import Visit


class Journal:
    """A JSON-lines file beside the output: a header with the configuration, then the visits.

    Args:
        path: the file.
        config: what decides the samples; a journal of another configuration is refused.
        resume: go on with what the file holds; False starts it anew.

    Raises:
        InputError: where the file cannot be written, or holds another configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any], resume: bool) -> None:
        self.path = path
        self._entries = self._read(config) if resume and path.exists() else []
        self._visits = len(self._entries)
        make_folder(path.parent)
        with whole_file(path) as handle:  # without the line that a kill cut short
            handle.writelines(json.dumps(entry) + "\n" for entry in [{"config": config}, *self._entries])
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open for the whole sweep

    def visits(self) -> list[Visit]:
        """The visits of the interrupted run."""
        return [Visit(**entry["visit"]) for entry in self._entries]

    def readings(self) -> list[Reading]:
        """The telemetry of each of them."""
        return [Reading(**entry["reading"]) for entry in self._entries]

    @property
    def used(self) -> bool:
        """Whether it holds a visit."""
        return self._visits > 0

    def add(self, visit: Visit, reading: Reading) -> None:
        """Note a finished visit."""
        self._visits += 1
        self._write({"visit": vars(visit), "reading": reading.as_json()})

    def close(self, remove: bool) -> None:
        """End the journal; it is not needed once the profile is written."""
        self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path}: cannot write: {error.strerror}; free some space and --resume") from error

    def _read(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError:  # the line that was being written when the run was killed
                break
        if not entries:
            return []
        found = entries[0].get("config")
        if found != config:
            raise InputError(
                f"{self.path}: {_difference(found, config)}; repeat the old options, or leave out --resume"
            )
        return entries[1:]


def _difference(found: Any, config: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "not a journal of hwprof bench"
    changed = [
        f"{key} was {found.get(key)!r} and is {config[key]!r}" for key in config if found.get(key) != config[key]
    ]
    return "the interrupted run had other options: " + ", ".join(changed)
