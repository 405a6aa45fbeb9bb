"""Which prompts' chunks go into the next prefill call: pure bookkeeping, no device.

A prompt of n tokens is cut at multiples of the longest chunk, and what is left into ever shorter
chunks: 100 tokens are 64, 32 and 4 of 16. So the cut depends on the prompt alone, and with it the
arithmetic.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import PrefillPack

# Decode steps that a chunk waits for company in its pack, while every slot has something to do. It
# must not be overtaken for ever: the longest sequences are read first because they take longest.
PATIENCE = 32


@dataclass(slots=True)
class _Prompt:
    place: int
    tokens: NDArray[np.int32]
    done: int
    fresh: bool
    waited: int = 0  # decode steps


_Seated = list[tuple[int, _Prompt]]  # each with its row


class PrefillQueue:
    """Prompts on the stage, not prefilled to their end yet."""

    def __init__(self, pack_shapes: Sequence[tuple[int, int]], places: int, parts: int = 1) -> None:
        """`places` of the stage; `parts` of them and of rows, see `api.Engine.parts`."""
        self._shapes = sorted(pack_shapes, key=lambda shape: -shape[1])
        self._places = places
        self._parts = parts
        self._prompts: list[_Prompt] = []

    def __len__(self) -> int:
        return len(self._prompts)

    def add(self, place: int, tokens: NDArray[np.int32], done: int, fresh: bool) -> None:
        """`tokens` [n] is all there is to prefill; the first `done` of them already are.

        `done` is a multiple of the longest chunk. `fresh`: the place holds nothing of this prompt.
        """
        self._prompts.append(_Prompt(place, tokens, done, fresh))

    def remove(self, place: int) -> None:
        """Forgets the prompt in `place`, if there is one."""
        self._prompts = [prompt for prompt in self._prompts if prompt.place != place]

    def wait(self, steps: int) -> None:
        """So many decode steps go by."""
        for prompt in self._prompts:
            prompt.waited += steps

    def next_pack(self, *, hurry: bool) -> tuple[PrefillPack, list[tuple[int, int]]] | None:
        """The next call and, for each of its prompts, (place, tokens prefilled after it).

        None when nothing is worth a call yet: no pack is full, no chunk has waited long, and
        there is no hurry (no slot is empty).
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
        shortest = self._shapes[-1][1]
        left = max(1, len(prompt.tokens) - prompt.done)
        left = -(-left // shortest) * shortest
        return next(index for index, (_, size) in enumerate(self._shapes) if size <= left)

    def _seated(self) -> list[_Seated]:
        """For each shape, the prompts for a call of it, first come first served."""
        taken: Counter[tuple[int, int]] = Counter()
        seated: list[_Seated] = [[] for _ in self._shapes]
        for prompt in self._prompts:
            index, part = self._shape_of(prompt), prompt.place * self._parts // self._places
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
            places=np.full((rows,), self._places, np.int32),
            fresh=np.zeros((rows,), np.bool_),
        )
        progress = []
        for row, prompt in seated:
            chunk = prompt.tokens[prompt.done : prompt.done + size]
            pack.tokens[row, : len(chunk)] = chunk
            pack.lengths[row] = len(chunk)
            pack.places[row] = prompt.place
            pack.fresh[row] = prompt.fresh
            prompt.done += len(chunk)
            prompt.fresh, prompt.waited = False, 0
            progress.append((prompt.place, prompt.done))
        finished = {p.place for _, p in seated if p.done == len(p.tokens)}
        self._prompts = [p for p in self._prompts if p.place not in finished]
        return pack, progress
