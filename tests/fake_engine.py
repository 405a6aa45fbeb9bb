"""An engine whose answers can be worked out by hand.

The next token is the sum of all tokens so far, modulo 10, and 0 is end-of-sequence: `[1, 2]` goes
on 3 6 2 4 8..., `[5]` goes on 5 0. A dropped token or a swapped slot changes every later value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import PrefillPack
from rgpipeline.engine.decoded import GOES_ON, IDLE, LAST, STOPPED, DecodedBlock
from rgpipeline.engine.slot_fields import SamplingFeatures, SlotParams
from rgpipeline.engine.text_requests import TokenScores
from rgpipeline.read_texts import StateKind


@dataclass(frozen=True)
class FakeSlot:
    total: int = 0
    token: int = 0
    remaining: int = 0
    stop_ids: tuple[int, ...] = ()
    active: bool = False


ANY_DIGIT = (1 << 10) - 1

Read = TypeVar("Read")
FakeState = tuple[FakeSlot, ...]
FakeBuffer = tuple[int, ...]  # what each row has added up


@dataclass(frozen=True)
class FakeBlock:
    block: DecodedBlock

    def read(self) -> DecodedBlock:
        return self.block


@dataclass(frozen=True)
class FakeScores(Generic[Read]):
    scores: Read

    def read(self) -> Read:
        return self.scores


@dataclass(frozen=True)
class FakeHidden:
    totals: NDArray[np.float32]  # [r, t]

    def log_probabilities(self, targets: NDArray[np.int32]) -> "FakeScores[TokenScores]":
        """Minus the sum of the tokens before, for each target; the next token is the greedy one."""
        logprobs = np.where(targets < 0, np.nan, -self.totals).astype(np.float32)
        return FakeScores(TokenScores(logprobs, self.totals % 10 == targets))

    def sums(self, counted: NDArray[np.bool_]) -> "FakeScores[NDArray[np.float32]]":
        return FakeScores(np.where(counted, self.totals, 0).sum(1, keepdims=True, dtype=np.float32))


@dataclass(frozen=True)
class FakeStep:
    engine: "FakeEngine"

    def draw(
        self, state: FakeState, features: SamplingFeatures, masks: NDArray[np.int32]
    ) -> tuple[FakeState, FakeBlock]:
        return self.engine.draw(state, features, masks)


class FakeEngine:
    """`engine.api.Engine` over additions; what an operation may overwrite is used once only."""

    vocab_size = 10_000  # any tokenizer's, though only 0 to 9 are ever generated
    width = 1
    eos_ids = (0,)
    parts = 1

    def __init__(self, slots: int = 4, steps: int = 3, chunk: int = 4) -> None:
        self.slots = slots
        self.prefill_rows = slots
        self.steps = steps
        self.pack_shapes: Sequence[tuple[int, int]] = [(2, chunk), (4, max(1, chunk // 2))]
        self.state_kind = StateKind("fake", "float32", "none", 1, self.vocab_size, chunk)
        self.prefilled = 0
        self.inserted = list[int]()
        self.blocks = 0
        self.masked_steps = 0
        self.forwards = 0  # first halves of them
        self._live: object = None
        self._buffer: object = None

    def init(self, features: SamplingFeatures) -> FakeState:
        return self._hand_out((FakeSlot(),) * self.slots)

    def widen(self, state: FakeState, features: SamplingFeatures) -> FakeState:
        return state

    def init_prefill_buffer(self) -> FakeBuffer:
        return self._set((0,) * self.prefill_rows)

    def prefill(self, buffer: FakeBuffer, pack: PrefillPack) -> FakeBuffer:
        assert buffer is self._buffer, "a donated buffer was read again"
        totals = list(buffer)
        for row, place in enumerate(pack.buffer_rows):
            if place == self.prefill_rows:
                continue
            length = int(pack.lengths[row])
            before = 0 if pack.fresh[row] else totals[place]
            totals[place] = before + int(pack.tokens[row, :length].sum())
            self.prefilled += length
        return self._set(tuple(totals))

    def assign(self, state: FakeState, params: Mapping[int, SlotParams | None]) -> FakeState:
        slots = list(self._take(state))
        for slot, one in params.items():
            if one is None:
                slots[slot] = replace(slots[slot], active=False)
            else:
                slots[slot] = FakeSlot(
                    slots[slot].total, one.token, one.remaining, one.stop_ids, True
                )
        return self._hand_out(tuple(slots))

    def decode(
        self, state: FakeState, features: SamplingFeatures, steps: int
    ) -> tuple[FakeState, FakeBlock]:
        slots = self._take(state)
        tokens = np.zeros((steps, self.slots), np.int32)
        codes = np.full((steps, self.slots), IDLE, np.int8)
        for step in range(steps):
            slots = tuple(map(_read_token, slots))
            slots, tokens[step], codes[step] = _draw_all(slots, [ANY_DIGIT] * self.slots)
        self.blocks += 1
        return self._hand_out(slots), FakeBlock(DecodedBlock(tokens, codes, None))

    def forward(self, state: FakeState) -> tuple[FakeState, "FakeStep"]:
        self.forwards += 1
        return self._hand_out(tuple(map(_read_token, self._take(state)))), FakeStep(self)

    def draw(
        self, state: FakeState, features: SamplingFeatures, masks: NDArray[np.int32]
    ) -> tuple[FakeState, FakeBlock]:
        slots, tokens, codes = _draw_all(self._take(state), masks[:, 0].tolist())
        self.masked_steps += 1
        return self._hand_out(slots), FakeBlock(DecodedBlock(tokens[None], codes[None], None))

    def insert(self, state: FakeState, slot: int, buffer: FakeBuffer, row: int) -> FakeState:
        assert slot * self.parts // self.slots == row * self.parts // self.prefill_rows
        self.inserted.append(slot)
        return self.restore(state, slot, self.copy_row(buffer, row))

    def copy_row(self, buffer: FakeBuffer, row: int) -> FakeBuffer:
        assert buffer is self._buffer, "a donated buffer was read again"
        return buffer[row : row + 1]

    def write_row(self, buffer: FakeBuffer, row: int, copied: FakeBuffer) -> FakeBuffer:
        assert buffer is self._buffer, "a donated buffer was read again"
        return self._set((*buffer[:row], *copied, *buffer[row + 1 :]))

    def restore(self, state: FakeState, slot: int, copied: FakeBuffer) -> FakeState:
        slots = list(self._take(state))
        assert not slots[slot].active
        slots[slot] = FakeSlot(total=copied[0])
        return self._hand_out(tuple(slots))

    def download(self, state: FakeState, slot: int) -> Mapping[str, NDArray[np.generic]]:
        return {"total": np.int64(state[slot].total), "token": np.int32(state[slot].token)}  # type: ignore[dict-item]

    def upload(self, arrays: Mapping[str, NDArray[np.generic]]) -> FakeBuffer:
        return (int(arrays["total"]),)

    def download_row(self, copied: FakeBuffer) -> Mapping[str, NDArray[np.generic]]:
        return {"total": np.asarray(copied[0])}

    def wait(self, buffer: FakeBuffer) -> None:
        pass

    @property
    def text_rows(self) -> int:
        return self.prefill_rows

    def init_text_buffer(self) -> FakeBuffer:
        return self.init_prefill_buffer()

    def read(self, buffer: FakeBuffer, pack: PrefillPack) -> tuple[FakeBuffer, "FakeHidden"]:
        """The hidden value of a position is the sum of the tokens up to it."""
        totals = np.full(pack.tokens.shape, np.nan, np.float32)
        for row, place in enumerate(pack.buffer_rows):
            if place < self.prefill_rows:
                before = 0 if pack.fresh[row] else buffer[place]
                totals[row] = before + np.cumsum(pack.tokens[row])
        return self.prefill(buffer, pack), FakeHidden(totals)

    def _take(self, state: FakeState) -> FakeState:
        assert state is self._live, "a donated state was read again"
        return state

    def _set(self, buffer: FakeBuffer) -> FakeBuffer:
        self._buffer = buffer
        return buffer

    def _hand_out(self, state: FakeState) -> FakeState:
        self._live = state
        return state


def _read_token(slot: FakeSlot) -> FakeSlot:
    return replace(slot, total=slot.total + slot.token) if slot.active else slot


def _draw_all(
    slots: FakeState, digits: Sequence[int]
) -> tuple[FakeState, NDArray[np.int32], NDArray[np.int8]]:
    """`digits`: of each slot those that are allowed, as bits."""
    drawn = [
        _draw(slot, allowed) if slot.active else (slot, IDLE)
        for slot, allowed in zip(slots, digits, strict=True)
    ]
    after = tuple(slot for slot, _ in drawn)
    tokens = np.asarray([slot.token for slot in after], np.int32)
    return after, tokens, np.asarray([code for _, code in drawn], np.int8)


def _draw(slot: FakeSlot, allowed: int) -> tuple[FakeSlot, int]:
    """The sum's last digit, or the next allowed one after it; 0 comes after 9."""
    token = slot.total % 10
    while not allowed >> token & 1:
        token = (token + 1) % 10
    remaining = slot.remaining - 1 if slot.remaining > 0 else slot.remaining
    code = STOPPED if token in slot.stop_ids else LAST if remaining == 0 else GOES_ON
    return replace(slot, token=token, remaining=remaining, active=code == GOES_ON), code


def by_hand(prompt: Sequence[int], max_tokens: int) -> list[int]:
    """What the fake engine must answer."""
    total, answer = sum(prompt), list[int]()
    while len(answer) < max_tokens and total % 10:
        answer.append(total % 10)
        total += answer[-1]
    return answer
