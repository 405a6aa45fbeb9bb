"""Shows the progress of a long call."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rgpipeline.wording import count, rate

_LINE_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1
_QUICK_S, _STAGE_EVERY_S = 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a call."""

    done: int  # completions, or scored prompts
    total: int
    tokens: int  # generated, or scored
    seconds: float  # since the call began


Watch = Callable[[Progress], None]


def watch_for(progress: bool | Watch) -> Watch:
    """Where progress goes: to the caller's function, to stderr for True, or nowhere."""
    if callable(progress):
        return progress
    return _Line(sys.stderr) if progress else _nobody


def stages_for(progress: bool | Callable[[str], None]) -> Callable[[str], None]:
    """Where an engine's long work is reported; see `Generator.load`."""
    if callable(progress):
        return progress
    return StageLines(sys.stderr) if progress else lambda text: None


class StageLines:
    """Writes what an engine is doing, when that takes more than two seconds.

    A line when the kind of work changes (`reading …`, `compiling …`), and every five seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._kind = ""
        self._said = 0.0
        self._quiet = False

    def __call__(self, text: str) -> None:
        now, kind = self._clock(), text.partition(" ")[0]
        if not text or self._quiet or now - self._began < _QUICK_S:
            return
        if kind != self._kind or now - self._said >= _STAGE_EVERY_S:
            self._kind, self._said = kind, now
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def stop(self) -> None:
        """Writes nothing more."""
        self._quiet = True


class _Line:
    """Progress on a terminal's last line; otherwise a line every ten seconds and at the end."""

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
        line = (
            f"{count(progress.done)}/{count(progress.total)} done, "
            f"{count(progress.tokens)} tokens, {speed}"
        )
        if self._terminal:
            line = f"\r{line}\x1b[K"
        self._stream.write(line + ("\n" if ended or not self._terminal else ""))
        self._stream.flush()


def _nobody(progress: Progress) -> None:
    pass
