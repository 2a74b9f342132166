"""Files: written whole or not at all, and read with errors that name the file and the place in it."""

import codecs
import errno
import io
import json
import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, overload

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import InputError, nearest, reason_of, shown
from .json_text import parse_json, visible

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Record(BaseModel):
    """A JSON file or a part of one: unknown keys, text instead of numbers, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, populate_by_name=True)


R = TypeVar("R", bound=Record)
S = TypeVar("S", bound=Record)
MOST_BYTES = 1 << 30
"""Largest file that is read, bytes."""
WRITER_S, SILENCE_S = 1.0, 60.0
"""How long a pipe may have nobody who writes to it, and how long whoever does may be silent; seconds."""


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open `path` for writing so that it appears complete or not at all; an old file stays until then.

    Args:
        path: file to make or replace.
        mode: "w" for UTF-8 text without newline translation, "wb" for bytes.

    Raises:
        InputError: where the file cannot be written; the old file, if any, is then untouched.
    """
    target = resolved(path)  # a link keeps pointing at the new content
    if _is_special(target):
        raise InputError(f"{path}: cannot write: it is not a regular file; name a file")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        temporary, descriptor = _temporary(target)
        try:
            with open(descriptor, mode, **text) as handle:  # type: ignore[call-overload]
                _keep_permissions(target, temporary)
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
                os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        space = "free some space, or " if error.errno == errno.ENOSPC else ""
        raise InputError(f"{path}: cannot write: {reason_of(error)}; {space}choose another place with -o") from error


def _temporary(target: Path) -> tuple[Path, int]:
    """A hidden file beside the target, and its descriptor, locked and empty.

    Its name is always the same, so that the next run takes what a killed one has left; a second run at the same time
    takes another name.
    """
    for suffix in ("tmp", f"{os.getpid()}.tmp"):
        temporary = target.with_name(f".{target.name[:100]}.{suffix}")
        descriptor = os.open(temporary, os.O_CREAT | os.O_RDWR, 0o666)
        if _lock(descriptor, temporary):
            os.ftruncate(descriptor, 0)
            break
        os.close(descriptor)
    return temporary, descriptor


def _lock(descriptor: int, path: Path) -> bool:
    """Lock a file unless another process has; false also where that process has renamed it in the meantime."""
    try:
        import fcntl
    except ImportError:  # not on this system: nothing tells two runs apart
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def resolved(path: Path) -> Path:
    """A path with its links followed.

    Raises:
        InputError: where a link leads back to itself, or for what is no path.
    """
    try:
        return path.resolve()
    except ValueError as error:  # a null byte, or half of a character
        raise InputError(f"{shown_path(path)}: found no name of a file ({reason_of(error)}); name another") from error
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path}: its links lead back to itself; name another file") from error


def _keep_permissions(target: Path, temporary: Path) -> None:
    """Give a file that takes another's place its permissions: what was private stays private."""
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # no such file yet, or a name that opening it will complain of
        return False


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        InputError: where that cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{shown_path(path)}: cannot make this folder: {reason_of(error)}; choose another") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file, of a pipe that somebody writes to, or of what is typed.

    Raises:
        InputError: for another device, a pipe that stays silent, and for more than `MOST_BYTES`.
        OSError: where it cannot be read.
    """
    with open(path, "rb", buffering=0, opener=_without_waiting) as handle:
        found = os.fstat(handle.fileno())
        if stat.S_ISREG(found.st_mode):
            _check_length(path, found.st_size)
            return handle.read()
        if handle.isatty():
            os.set_blocking(handle.fileno(), True)
            return handle.read()
        if not stat.S_ISFIFO(found.st_mode):
            raise InputError(f"{path}: found a device, accepted: a file, or a pipe that somebody writes to")
        return _piped(path, handle)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; of a pipe, do not wait until somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_length(path: Path, length: int) -> None:
    if length > MOST_BYTES:
        raise InputError(f"{path}: found more than {MOST_BYTES >> 20} MiB, accepted: a smaller file")


def _piped(path: Path, handle: io.RawIOBase) -> bytes:
    """What somebody writes to a pipe."""
    parts: list[bytes] = []
    begun = time.monotonic()
    while (part := handle.read(1 << 20)) != b"" or not parts:
        if part:
            parts.append(part)
            _check_length(path, sum(map(len, parts)))
        elif part is None and not select.select([handle], [], [], SILENCE_S)[0]:
            raise InputError(f"{path}: found a pipe that is silent for {SILENCE_S:g} s, accepted: a file")
        elif part == b"" and time.monotonic() - begun > WRITER_S:
            raise InputError(f"{path}: found a pipe that nobody writes to, accepted: a file")
        elif part == b"":
            time.sleep(0.01)
    return b"".join(parts)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 where a byte order mark says so; the mark is dropped.

    Raises:
        InputError: where it is missing, a directory, unreadable, or in another encoding.
    """
    try:
        content = read_bytes(path)
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise InputError(f"{path}: line {line}: not UTF-8 ({byte}); save the file as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{shown_path(path)}: cannot read: {reason}; name an existing file") from error


def shown_path(path: Path) -> str:
    """A path for a message: as it is, or quoted where it holds what a terminal cannot show."""
    return str(path) if str(path).isprintable() else repr(str(path))


@overload
def read_record(path: Path, kind: type[R]) -> R: ...
@overload
def read_record(path: Path, kind: type[R], other: type[S]) -> R | S: ...
def read_record(path: Path, kind: type[Record], other: type[Record] | None = None) -> Record:
    """Read and check one JSON file.

    Args:
        path: the file.
        kind: its pydantic model, with a `schema_` field whose default is the schema's name.
        other: model of another schema that the file may have.

    Raises:
        InputError: one line naming file, field, what was found and what is accepted.
    """
    data = _parse_json(path)
    if other is not None and data.get("schema") == _schema_of(other):
        kind = other
    _check_schema(path, data, _schema_of(kind))
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error, kind)}") from error


def _schema_of(kind: type[Record]) -> str:
    return str(kind.model_fields["schema_"].default)


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON at full precision, whole or not at all."""
    with whole_file(path) as handle:
        handle.write(record_json(record))


def record_json(record: Record) -> str:
    """The text of a record's file."""
    return visible(json.dumps(record.model_dump(by_alias=True), indent=2, allow_nan=False, ensure_ascii=False)) + "\n"


def _parse_json(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        data = parse_json(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: {place}: not valid JSON ({error.msg}); is the file cut short or edited?") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); mend or replace the file") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: found a {type(data).__name__} at the top, accepted: a JSON object")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {shown(twice)} stands twice")
    return keys


def _check_schema(path: Path, data: dict[str, Any], accepted: str) -> None:
    schema = data.get("schema")
    if schema == accepted:
        return
    name, _, version = accepted.partition("@")
    own_name, _, own_version = schema.partition("@") if isinstance(schema, str) else ("", "", "")
    if own_name == name and own_version.isdecimal() and int(own_version[:9]) > int(version):
        raise InputError(
            f"{path}: field 'schema': found {shown(schema)}, newer than the {accepted!r} that this edgesplit reads; "
            "upgrade edgesplit"
        )
    raise InputError(f"{path}: field 'schema': found {shown(schema)}, accepted: {accepted!r}")


def first_problem(error: ValidationError, kind: type[Record]) -> str:
    """What is wrong with data that a record refused: the field, what was found, what is accepted."""
    problems = error.errors(include_url=False)
    # a misspelt key is an unknown one and a missing one: the first says what to do
    problem = next((p for p in problems if p["type"] in UNKNOWN_KEY), problems[0])
    field = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    if problem["type"] in UNKNOWN_KEY:
        return f"field {shown(field)}: unknown; {nearest(str(problem['loc'][-1]), _field_names(kind))}"
    if problem["type"] == "missing":
        return f"field {shown(field)}: missing; add it"
    value = shown(problem["input"]) if not isinstance(problem["input"], dict) else "an object"
    return f"field {shown(field)}: found {value}, accepted: {accepted_words(problem)}"


UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a key that a record, or a dataclass in it, does not have."""
ACCEPTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
    "none_required": "null",
    "too_short": "{min_length} values or more",
    "too_long": "{max_length} values at most",
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "{le:g} at most",
    "less_than": "less than {lt:g}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text of the form {pattern}",
}
"""Our words for what pydantic accepts, by its name of the error; the braces are filled from the error's context."""


def accepted_words(problem: "ErrorDetails") -> str:
    """What is accepted in place of a value that pydantic refused."""
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":  # said by a check of ours
        return str(context["error"])
    words = ACCEPTED.get(problem["type"])
    return words.format(**context) if words else problem["msg"]


def _field_names(kind: type[Record]) -> list[str]:
    """The keys of a record and of the records inside it."""
    names: list[str] = []
    for name, field in kind.model_fields.items():
        names.append(field.alias or name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Record):
            names += _field_names(inner)
    return names
