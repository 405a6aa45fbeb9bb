"""How far a long call is."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rgpipeline.wording import count, rate

_LINE_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call is."""

    done: int  # completions, or scored prompts
    total: int
    tokens: int  # generated, or scored
    seconds: float  # since the call began


Watch = Callable[[Progress], None]


def watch_for(progress: bool | Watch) -> Watch:
    """What hears of progress: the caller's function, a line on stderr for True, or nobody."""
    if callable(progress):
        return progress
    return _Line(sys.stderr) if progress else _nobody


class _Line:
    """Progress on a terminal's last line; elsewhere a line every ten seconds and at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._next = 0.0 if self._terminal else time.monotonic() + _LINE_EVERY_S

    def __call__(self, progress: Progress) -> None:
        ended = progress.done == progress.total
        if not ended and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (_DRAW_EVERY_S if self._terminal else _LINE_EVERY_S)
        speed = rate(progress.tokens / max(progress.seconds, 1e-9))
        told = (
            f"{count(progress.done)}/{count(progress.total)} done, "
            f"{count(progress.tokens)} tokens, {speed}"
        )
        if self._terminal:
            told = f"\r{told}\x1b[K"
        self._stream.write(told + ("\n" if ended or not self._terminal else ""))
        self._stream.flush()


def _nobody(progress: Progress) -> None:
    pass
