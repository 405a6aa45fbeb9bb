"""Which prompts' chunks go into the next prefill call: pure bookkeeping, no device.

A prompt of n tokens is cut at multiples of the longest chunk; what is left goes into the shortest
chunk that holds it. So the cut depends on the prompt alone, and with it the arithmetic.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import PrefillPack

PATIENCE = 8  # decode steps that a chunk waits for company in its pack


@dataclass(slots=True)
class _Prompt:
    slot: int
    tokens: NDArray[np.int32]
    done: int
    fresh: bool
    waited: int = 0  # decode steps


_Seated = list[tuple[int, _Prompt]]  # each with its row


class PrefillQueue:
    """Prompts in slots, not prefilled to their end yet."""

    def __init__(
        self, pack_shapes: Sequence[tuple[int, int]], idle_slot: int, parts: int = 1
    ) -> None:
        """`parts` of slots and of rows, see `api.Engine.parts`; slots are in [0, `idle_slot`)."""
        self._shapes = sorted(pack_shapes, key=lambda shape: -shape[1])
        self._idle_slot = idle_slot
        self._parts = parts
        self._prompts: list[_Prompt] = []

    def __len__(self) -> int:
        return len(self._prompts)

    def add(self, slot: int, tokens: NDArray[np.int32], done: int, fresh: bool) -> None:
        """`tokens` [n] is all there is to prefill; the first `done` of them already are.

        `done` is a multiple of the longest chunk. `fresh`: the slot holds nothing of this prompt.
        """
        self._prompts.append(_Prompt(slot, tokens, done, fresh))

    def remove(self, slot: int) -> None:
        """Forgets the prompt in `slot`, if there is one."""
        self._prompts = [prompt for prompt in self._prompts if prompt.slot != slot]

    def wait(self, steps: int) -> None:
        """So many decode steps go by."""
        for prompt in self._prompts:
            prompt.waited += steps

    def next_pack(self, *, hurry: bool) -> tuple[PrefillPack, list[tuple[int, int]]] | None:
        """The next call and, for each of its prompts, (slot, tokens prefilled after it).

        None when nothing is worth a call yet: no pack is full, no chunk has waited long, and
        there is no hurry (the device has other work).
        """
        if not self._prompts:
            return None
        best: tuple[float, int, _Seated] | None = None
        for index, seated in enumerate(self._seated()):
            if not seated:
                continue
            fill = len(seated) / self._shapes[index][0]
            due = hurry or fill == 1.0 or any(p.waited >= PATIENCE for _, p in seated)
            if due and (best is None or fill > best[0]):
                best = (fill, index, seated)
        return None if best is None else self._pack(*best[1:])

    def _shape_of(self, prompt: _Prompt) -> int:
        left = len(prompt.tokens) - prompt.done
        for index in range(len(self._shapes) - 1, 0, -1):
            if self._shapes[index][1] >= left:
                return index
        return 0

    def _seated(self) -> list[_Seated]:
        """For each shape, the prompts for a call of it, first come first served."""
        taken: Counter[tuple[int, int]] = Counter()
        seated: list[_Seated] = [[] for _ in self._shapes]
        for prompt in self._prompts:
            index, part = self._shape_of(prompt), prompt.slot * self._parts // self._idle_slot
            rows = self._shapes[index][0] // self._parts
            if taken[index, part] < rows:
                seated[index].append((part * rows + taken[index, part], prompt))
                taken[index, part] += 1
        return seated

    def _pack(self, index: int, seated: _Seated) -> tuple[PrefillPack, list[tuple[int, int]]]:
        rows, size = self._shapes[index]
        pack = PrefillPack(
            tokens=np.zeros((rows, size), np.int32),
            lengths=np.zeros((rows,), np.int32),
            slots=np.full((rows,), self._idle_slot, np.int32),
            fresh=np.zeros((rows,), np.bool_),
        )
        progress = []
        for row, prompt in seated:
            chunk = prompt.tokens[prompt.done : prompt.done + size]
            pack.tokens[row, : len(chunk)] = chunk
            pack.lengths[row] = len(chunk)
            pack.slots[row] = prompt.slot
            pack.fresh[row] = prompt.fresh
            prompt.done += len(chunk)
            prompt.fresh, prompt.waited = False, 0
            progress.append((prompt.slot, prompt.done))
        finished = {p.slot for _, p in seated if p.done == len(p.tokens)}
        self._prompts = [p for p in self._prompts if p.slot not in finished]
        return pack, progress
