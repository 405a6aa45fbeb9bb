"""Output to the terminal: colours where wanted, errors and warnings on stderr."""

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


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
    """Prints an error message on stderr."""
    _say("error", "31", message)


def say_warning(message: str) -> None:
    """Prints a warning on stderr."""
    _say("warning", "33", message)


def _say(word: str, colour: str, message: str) -> None:
    word = f"\x1b[1;{colour}m{word}:\x1b[0m" if colours(sys.stderr) else f"{word}:"
    print(f"{word} {message}", file=sys.stderr)
