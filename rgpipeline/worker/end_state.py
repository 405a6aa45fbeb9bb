"""The state at the end of a sample: what was read of its prompt, and all tokens since."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.io.state_files import parse_state, state_bytes
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Request

# Arrays beside those of the engine in a snapshot.
_PROMPT, _WRITTEN = "end_state.prompt", "end_state.written"


class EndState:
    """Gathers it while the sample is generated, if the request asks for it."""

    def __init__(self, request: Request) -> None:
        """Begins, or continues from the request's snapshot."""
        self._wanted = request.keep_read
        self._prompt: ReadText | None = None
        self._written: list[NDArray[np.int32]] = []
        arrays = request.snapshot.arrays if request.snapshot else {}
        if self._wanted and _PROMPT in arrays:
            self._prompt = parse_state(arrays[_PROMPT].tobytes(), "a snapshot")
            self._written = [np.asarray(arrays[_WRITTEN], np.int32)]

    def begin(self, prompt: ReadText | None) -> None:
        """Takes the prompt, as it was read."""
        self._prompt = prompt or self._prompt

    def add(self, ids: NDArray[np.int32]) -> None:
        """Takes tokens of the completion."""
        if self._wanted:
            self._written.append(ids)

    def drop(self) -> None:
        """The sample has failed: there is none."""
        self._prompt = None

    @property
    def state(self) -> ReadText | None:
        """The state after all tokens so far."""
        return self._prompt and self._prompt.continued(self._all())

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What a snapshot holds of it."""
        if self._prompt is None:
            return {}
        packed = np.frombuffer(state_bytes(self._prompt), np.uint8)
        return {_PROMPT: packed, _WRITTEN: self._all()}

    def _all(self) -> NDArray[np.int32]:
        return np.concatenate([np.zeros((0,), np.int32), *self._written], dtype=np.int32)
