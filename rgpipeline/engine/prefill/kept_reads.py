"""What was read of prompts, kept for those who continue them."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Engine, Rows, State
from rgpipeline.engine.sequence import Sequence, on_host
from rgpipeline.read_texts import ReadText, read_text

_ON_DEVICE = 4  # kept states that are not copied to the host yet, at most: the memory is for slots


class KeptReads(Generic[State, Rows]):
    """Copies states to the host as sequences pass the ends of their prompts' whole chunks."""

    def __init__(self, engine: Engine[State, Rows]) -> None:
        self._engine = engine
        self._waiting: deque[Sequence] = deque()  # the copies of these may be on the device still

    def keep(self, sequence: Sequence, buffer: Rows | None) -> None:
        """Notes what is read of a sequence at its boundary.

        `buffer`: has the state in the sequence's row; None if no whole chunk is read.
        """
        arrays: Mapping[str, NDArray[np.generic]] = {}
        request = sequence.request
        if buffer is not None:
            row = self._engine.copy_row(buffer, sequence.row)
            arrays = self._engine.download_row(row)
        kind, done = self._engine.state_kind, sequence.boundary
        read = read_text(kind, request.start, request.tokens, done, arrays)
        sequence.kept = replace(read, in_turn=request.in_turn)
        self._waiting.append(sequence)
        while len(self._waiting) > _ON_DEVICE:
            oldest = self._waiting.popleft()
            oldest.kept = None if oldest.kept is None else on_host(oldest.kept)


def start_of(start: ReadText | None) -> bytes:
    """Names the read text that a request continues; empty if it continues none.

    By identity: equal texts that two machines have read may differ in last bits.
    """
    return f"{start.digest} {id(start.arrays)}".encode() if start and start.read else b""
