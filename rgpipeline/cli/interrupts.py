"""Ctrl-C: once to stop gently, twice to stop now."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GENTLE = (
    "Stopping: publishing what is finished, saving what is long. Ctrl-C again stops at once; "
    "either way, the same command goes on from what is published."
)


@contextmanager
def gentle_interrupts(stop: threading.Event, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C sets `stop` and says so; the next raises KeyboardInterrupt, as ever."""

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.set()
        say(GENTLE)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
