"""The parts of texts that wait to be read, and which of them the next call reads. No device here.

A text's first part, in which nothing is scored, goes through the program for prompts, which leaves
out what only results need; the rest goes through the program that returns hidden values. Each has a
queue of its own: so the program that reads a chunk depends on the chunk's text alone, and with it
the bits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import PrefillPack
from rgpipeline.engine.prefill.queues import PrefillQueue


class PartsCall(NamedTuple):
    """A call for first parts, or for the rest of texts."""

    first_parts: bool
    pack: PrefillPack
    progress: list[tuple[int, int]]  # as of `PrefillQueue.next_pack`


class TextParts:
    """A queue for first parts, and one for the rest."""

    def __init__(self, shapes: Sequence[tuple[int, int]], buffer_rows: int, parts: int) -> None:
        """As `PrefillQueue`."""
        self._first, self._rest = (PrefillQueue(shapes, buffer_rows, parts) for _ in range(2))

    @property
    def progress(self) -> tuple[int, int]:
        """(tokens read, tokens) of all parts in the queues; any thread may ask."""
        (first_read, first), (read, tokens) = self._first.progress, self._rest.progress
        return first_read + read, first + tokens

    def add(
        self, row: int, tokens: NDArray[np.int32], done: int, fresh: bool, *, first: bool
    ) -> None:
        """Queues a first part, or the rest of a text; see `PrefillQueue.add`."""
        (self._first if first else self._rest).add(row, tokens, done, fresh)

    def remove(self, row: int) -> None:
        """Drops what is queued of the text in a row, if there is anything."""
        self._first.remove(row)
        self._rest.remove(row)

    def next_call(self) -> PartsCall | None:
        """A full call, if there is one; else one for first parts, after which others are fuller."""
        for flush in (False, True):
            for queue in (self._first, self._rest):
                if (call := queue.next_pack(flush=flush)) is not None:
                    return PartsCall(queue is self._first, *call)
        return None
