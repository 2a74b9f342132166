"""The journal of a measurement: one flushed line per visit, so that a run that was killed can go on where it was."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ..common.console import say
from ..common.errors import InputError, counted
from ..common.files import Record, make_folder, read_bytes, whole_file
from ..common.json_text import parse_json
from .samples import MOST_SECONDS
from .telemetry import Reading
from .timing import Visit

Measured = tuple[Visit, Reading]


class Journal:
    """A JSON-lines file beside the output: a header with the configuration, then the visits.

    Used in a `with` statement, it removes its file at the end, when the profile is written; after an error the file
    stays if it holds a visit.

    Attributes:
        done: visits of an interrupted run, each with its telemetry.
        threads: number of CPU threads of the run; None until it is known, and on a GPU.
        used: whether the file holds a visit.

    Args:
        path: file of the journal.
        config: what the samples depend on; a journal with visits of another configuration is refused.
        fresh: whether to begin the file anew, whatever it holds.

    Raises:
        InputError: where the file cannot be written, or holds visits of another configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any], fresh: bool = False) -> None:
        self.path = path
        self.threads: int | None = None
        self.done: list[Measured] = []
        if path.exists() and not fresh:
            self._read(config)
        self.used = bool(self.done)
        make_folder(path.parent)
        entries = [{"config": config}, *([{"threads": self.threads}] if self.threads else []), *map(_entry, self.done)]
        with whole_file(path) as handle:  # leaves out the line that a kill cut short
            handle.writelines(map(_line, entries))
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open for the whole sweep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(remove=kind is None or not self.used)

    def keep_threads(self, threads: int) -> None:
        """Note the number of CPU threads with which the steps run."""
        self.threads = threads
        self._write({"threads": threads})

    def add(self, visit: Visit, reading: Reading) -> None:
        """Note a finished visit."""
        self.used = True
        self._write(_entry((visit, reading)))

    def close(self, remove: bool) -> None:
        """Close the file and, if asked, remove it."""
        with suppress(OSError):  # what a full disk has not taken was told when it was written
            self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(_line(entry))
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write: {error.strerror}; free some space and repeat the command"
            ) from error

    def _read(self, config: dict[str, Any]) -> None:
        """Take what the file holds.

        Raises:
            InputError: for what is no journal, and for visits of another configuration.
        """
        try:
            header, *lines = read_bytes(self.path).split(b"\n")
        except OSError as error:
            raise InputError(f"{self.path}: cannot read: {error.strerror}; move it away") from error
        signed = any(b'"digest"' in line for line in (header, *lines))  # journals of an old version are not
        old = _loaded(header, signed).get("config")
        if not isinstance(old, dict):
            raise InputError(f"{self.path}: not a journal of hwprof bench; move it away, or begin anew with --fresh")
        entries = [_loaded(line, signed) for line in lines]
        done = list(_whole(entries))
        if done and (changed := _difference(old, config)):  # an option that is new since then was None
            raise InputError(
                f"{self.path}: an interrupted run had other options: {changed}; repeat them to go on with it, or begin "
                "anew with --fresh"
            )
        if damaged := sum(map(bool, lines[:-1])) - len(done) - sum("threads" in entry for entry in entries):
            say(f"hwprof: {self.path} was damaged: {counted(damaged, 'visit')} of it are measured again")
        if done:
            chosen = [entry["threads"] for entry in entries if type(entry.get("threads")) is int]
            self.done, self.threads = done, chosen[0] if chosen else None


class _Measured(Record):
    """A line of a finished visit."""

    visit: Visit
    reading: Reading


def _loaded(line: bytes, signed: bool) -> dict[str, Any]:
    """The object in a line; an empty one where it holds none, or not the one that was written."""
    try:
        entry = parse_json(line)
    except ValueError:
        return {}
    if not isinstance(entry, dict) or (signed and entry.pop("digest", None) != _digest(entry)):
        return {}
    return entry


def _whole(entries: Sequence[dict[str, Any]]) -> Iterator[Measured]:
    """The visits up to the line that was being written when the run was killed, or the first one that is damaged.

    What follows it is left out: a reading tells the energy since the visit before.
    """
    for entry in entries:
        if "threads" in entry:
            continue
        try:
            measured = _Measured.model_validate_json(json.dumps(entry))
        except ValueError:
            return
        seconds = measured.visit.durations_s
        if not seconds or not all(0 < s <= MOST_SECONDS for s in seconds):
            return
        yield measured.visit, measured.reading


def _entry(measured: Measured) -> dict[str, Any]:
    visit, reading = measured
    return {"visit": vars(visit), "reading": reading.as_json()}


def _line(entry: dict[str, Any]) -> str:
    return json.dumps({**entry, "digest": _digest(entry)}) + "\n"


def _digest(entry: dict[str, Any]) -> str:
    """What tells whether a line has changed since it was written."""
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:16]


def _difference(old: dict[str, Any], config: dict[str, Any]) -> str:
    """What differs between the interrupted run's configuration and this one's, down to the single option."""
    changed = []
    for key, now in config.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            changed += [
                f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in now if before.get(name) != now[name]
            ]
        elif before != now:
            changed.append(f"{key} was {before!r} and is {now!r}")
    return ", ".join(changed)
