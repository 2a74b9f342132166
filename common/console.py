"""The frame of every command: errors in one line with exit code 2, Ctrl-C in one line with 130."""

import contextlib
import errno
import io
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from .errors import InputError, printable, reason_of, shown

INTERRUPTED = 130
"""The exit code that Typer gives Ctrl-C."""
DEBUG = "EDGESPLIT_DEBUG"
"""Environment variable with which a defect prints its traceback."""
_PRESSED: list[int] = []
"""Holds something once Ctrl-C was pressed."""
_RESUMABLE: list[bool] = []
"""Holds something once work was interrupted that the same command goes on with."""


class CommandGroup(TyperGroup):
    """A command with subcommands that answers a file in their place with what to type."""

    FILE_OPTION = ""
    """The option of the command that takes a file, such as "--users"; none where this is empty."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the subcommand that the first argument names."""
        word = args[0]
        if self.FILE_OPTION and word not in self.list_commands(ctx) and ("." in word or os.sep in word):
            command = f"{ctx.command_path} {self.FILE_OPTION} {word}"
            raise InputError(f"found {word!r}, accepted: an option or a subcommand; for a file type `{command}`")
        return super().resolve_command(ctx, args)


def make_app(summary: str, group: type[TyperGroup] = CommandGroup) -> typer.Typer:
    """A Typer application with -h and without boxes: its errors are printed by `run`.

    Args:
        summary: first paragraph of the help.
        group: class of the command where it has subcommands.
    """
    return typer.Typer(
        cls=group,
        help=summary,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def command_of(app: typer.Typer) -> Any:
    """The application as a command, with its summary as help and --version among its options."""
    command = typer.main.get_command(app)
    command.help = str(app.info.help)  # Typer itself shows the function's docstring where there is one command
    command.params.append(_version_option())
    return command


def _version_option() -> Any:
    """The option --version, taken from a command that has nothing else."""

    def command(
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
        ] = False,
    ) -> None:
        del version

    app = typer.Typer(add_completion=False)
    app.command()(command)
    option = typer.main.get_command(app).params[0]
    option.expose_value = False
    return option


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"edgesplit {version('edgesplit')}")
        raise typer.Exit


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command and leave the process with its exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of torch that wait leave the cores to others
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed by the caller
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - or its words went to stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale: user ids are UTF-8
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    _silence_libraries()
    with _interruptions_noted():
        code = _exit_code(app, name)
    sys.exit(code)


def run_module(main: Callable[[], None], name: str) -> None:
    """Run what a module does under `python -m`; wrong input is told in one line, with exit code 2."""
    try:
        main()
    except InputError as error:
        say(f"{name}: {error}")
        raise SystemExit(2) from error


def _silence_libraries() -> None:
    """Keep from the terminal what libraries say of the installation, which no user of ours can mend with an option."""
    warnings.filterwarnings("ignore", "The pynvml package is deprecated")  # at every import of torch
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where its cache cannot be written, another place serves


@contextmanager
def _interruptions_noted() -> Iterator[None]:
    """Note Ctrl-C besides raising it: libraries turn it into errors of their own while they are imported."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # another thread, or somebody else handles it
        yield
        return

    def note(number: int, frame: Any) -> None:
        _PRESSED.append(number)
        signal.default_int_handler(number, frame)

    _RESUMABLE.clear()
    signal.signal(signal.SIGINT, note)
    try:
        with _interruptions_repeated():
            yield
    finally:
        _PRESSED.clear()
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interruptions_repeated() -> Iterator[None]:
    """Let Ctrl-C act a moment later where Python drops it: while it collects garbage, no error can leave the code."""
    before = sys.unraisablehook

    def repeat(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, interrupt_main).start()
        else:
            before(lost)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def resumable() -> Iterator[None]:
    """Around work that the same command goes on with after an interruption, which is then said."""
    try:
        yield
    except KeyboardInterrupt:
        _RESUMABLE.append(True)
        raise


def say(message: str) -> None:
    """Tell the person at the terminal something: one physical line on stderr."""
    print(printable(" ".join(message.split())), file=sys.stderr)


def _exit_code(app: typer.Typer, name: str) -> int:
    try:
        code = int(command_of(app).main(prog_name=name, standalone_mode=False) or 0)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nothing else is between it and the user
        return _failed(name, error)
    return _interrupted(name) if code == INTERRUPTED else code


def _failed(name: str, error: BaseException) -> int:
    """Say in one line why a command failed; returns its exit code."""
    if isinstance(error, InputError | TyperException):
        say(f"{name}: {_refusal(name, error)}")
        return 2
    if isinstance(error, KeyboardInterrupt) or _PRESSED:
        return _interrupted(name)
    if isinstance(error, BrokenPipeError):  # the reader of our stdout has gone, e.g. `| head`
        _drop_stdout()
        return 0
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO):  # files raise InputError: it is stdout
        _drop_stdout()
        say(f"{name}: stdout: cannot write: {error.strerror}; send the output elsewhere")
        return 2
    if DEBUG in os.environ:
        raise error
    return _defect(name, error)


def _refusal(name: str, error: InputError | TyperException) -> str:
    if isinstance(error, InputError):
        return str(error)
    context = getattr(error, "ctx", None)  # usage errors know the subcommand
    said = _bad_value(error) or error.format_message().rstrip(".")
    return f"{said}; see {context.command_path if context else name} --help"


def _bad_value(error: TyperException) -> str | None:
    """What is wrong with the value of an option, in our words; None for another error."""
    from pydantic import ValidationError  # slow, and help needs none of it

    from .files import accepted_words

    cause, parameter = error.__cause__, getattr(error, "param", None)
    if not isinstance(cause, ValidationError) or parameter is None:
        return None
    problem = cause.errors(include_url=False)[0]
    accepted = accepted_words(problem).rpartition("is not one of ")[2]  # as Typer says of choices
    accepted = accepted.rstrip(".").replace("'", "")
    return f"{parameter.opts[0]}: found {shown(problem['input'])}, accepted: {accepted}"


def _interrupted(name: str) -> int:
    say(f"{name}: interrupted" + ("; the same command goes on from here" if _RESUMABLE else ""))
    return INTERRUPTED


def _defect(name: str, error: BaseException) -> int:
    """Say in one line that something went wrong which is not the user's fault."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
    say(
        f"{name}: a defect of edgesplit: {type(error).__name__} in {place} ({reason_of(error)}); please report it "
        f"with what the same command prints when {DEBUG}=1 stands before it"
    )
    return 1


def _drop_stdout() -> None:
    """Let nothing more be written, so that Python's own flush at exit cannot fail."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
