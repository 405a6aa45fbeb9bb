"""What a command says on stderr, and how it ends: an exit code, then the end of the process."""

import atexit
import errno
import functools
import io
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TextIO

import typer

from rgpipeline.errors import RgpipelineError, missing_package

if TYPE_CHECKING:
    from rich.console import Console
INTERRUPTED = 130
P = ParamSpec("P")


def accept_any_text() -> None:
    """Makes stdout and stderr print `?` for characters that their encoding lacks."""
    if sys.stdout is None:  # it was closed before the program started
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def colours(stream: TextIO) -> bool:
    """Whether to colour output to `stream`: a terminal, without NO_COLOR or TERM=dumb."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def console(stream: TextIO | None = None) -> "Console":
    """A console on `stream` (default stdout) that prints text as it is, never as markup."""
    from rich.console import Console

    stream = sys.stdout if stream is None else stream
    return Console(
        file=stream,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=not colours(stream),
        soft_wrap=True,
    )


def say_error(message: str) -> None:
    _say("error", "31", message)


def say_warning(message: str) -> None:
    _say("warning", "33", message)


def _say(word: str, colour: str, message: str) -> None:
    word = f"\x1b[1;{colour}m{word}:\x1b[0m" if colours(sys.stderr) else f"{word}:"
    print(f"{word} {message}", file=sys.stderr)


def interruptible(command: Callable[P, int]) -> Callable[P, int]:
    """Wraps a command to print `Interrupted.` on Ctrl-C, which typer would swallow."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            print("\nInterrupted.", file=sys.stderr)
            return INTERRUPTED

    return run


def guarded(action: Callable[[], int], debug: Callable[[], bool]) -> int:
    """Returns what `action` returns; if it raises, prints why and returns the exit code for that.

    `debug`: called after an error; whether to print its traceback.
    """
    try:
        code = action()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except RgpipelineError as error:
        if debug():
            traceback.print_exc()
        say_error(str(error))
        return error.exit_code
    except typer.TyperException as error:
        say_error(_misused(error))
        return error.exit_code
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # typer's answer to one
            return _reader_gone()
        raise
    except Exception as error:
        if debug():
            traceback.print_exc()
            return 1
        if isinstance(error, ModuleNotFoundError) and (lacking := missing_package(error)):
            say_error(lacking)
            return 2
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            say_error(f"no space is left on the disk that is written to ({error})")
            return 1
        say_error(_unexpected(error))
        return 1


def _misused(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "rgpipeline"
    return f"{error.format_message()}\nSee `{command} --help`."


def _unexpected(error: Exception) -> str:
    """The message for a bug of ours; writes the traceback to a file."""
    text = " ".join(str(error).split())[:300]
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    path = Path(tempfile.gettempdir()) / f"rgpipeline-{time.strftime('%Y%m%d-%H%M%S')}.log"
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return f"{message}\nThis is a bug; `rgpipeline --debug …` shows where it happened."
    return f"{message}\nThis is a bug; the traceback is in {path}"


def _reader_gone() -> int:
    """stdout was closed (`| head`); makes the flush at Python's exit harmless."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class HardExit:
    """Ends the process with `code` after all other exit handlers, skipping Python's finalization.

    During finalization a library's thread (Arrow's readers, gRPC) that needs the interpreter aborts
    the process with exit code 134 or 139, though all work is done. Exit handlers run in the reverse
    order of their registration, so make this object before the command imports anything.
    """

    def __init__(self) -> None:
        self.code = 1
        atexit.register(self._exit)

    def _exit(self) -> None:
        logging.shutdown()  # its own exit handler would run after this one
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):  # the reader is gone, or the stream is closed
                    stream.flush()
        os._exit(self.code)
