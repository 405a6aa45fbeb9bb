"""The sequences that have slots: their states, and the block that the device may still work on.

A block's tokens are read one call late. So each block in flight goes with the sequences that had
the slots when it was dispatched.
"""

from collections.abc import Hashable, Iterable
from collections.abc import Sequence as Seq
from typing import Generic

import numpy as np

from rgpipeline.engine.api import Engine, Rows, State
from rgpipeline.engine.checks import NumberCheck, stop_ids
from rgpipeline.engine.constrained import Constraints, Ended, follow
from rgpipeline.engine.decoded import DecodedBlock, PendingBlock, PendingStep
from rgpipeline.engine.prefill.admission import Admission
from rgpipeline.engine.sequence import (
    NO_TOKENS,
    BlockRead,
    IndexPool,
    InFlight,
    Sequence,
    snapshot,
)
from rgpipeline.engine.slot_fields import SamplingFeatures, SlotParams
from rgpipeline.records import Emission


class Decoder(Generic[State, Rows]):
    """Decodes in an engine's slots."""

    def __init__(self, engine: Engine[State, Rows], slots: IndexPool) -> None:
        self._engine = engine
        self._slots = slots
        self._features = SamplingFeatures()
        self._state = engine.init(self._features)
        self.in_flight: InFlight | None = None

    def insert(self, admission: Admission[State, Rows]) -> list[Sequence]:
        """Fills free slots with sequences that are ready; returns these."""
        self._state, sequences = admission.insert(self._state)
        if not sequences:
            return sequences
        features = self._features | SamplingFeatures.union(s.request.sampling for s in sequences)
        if features != self._features:
            self._state = self._engine.widen(self._state, features)
            self._features = features
        params = {one.slot: params_of(one, self._engine.eos_ids) for one in sequences}
        self._state = self._engine.assign(self._state, params)
        return sequences

    def decode(self, steps: int, prefills: int) -> InFlight | None:
        """Dispatches a block of all slots, if any has a sequence; returns the block before it.

        `prefills`: prefill calls made so far.
        """
        previous = self.take()
        if self._slots:
            self._state, block = self._engine.decode(self._state, self._features, steps)
            self._record(block, steps, prefills, masked=False)
        return previous

    def take(self) -> InFlight | None:
        """The block in flight, to be read."""
        flight, self.in_flight = self.in_flight, None
        return flight

    @property
    def needs_masks(self) -> bool:
        """Whether a sequence in a slot has a grammar."""
        return any(sequence.matcher is not None for sequence in self._slots)

    @property
    def masked(self) -> bool:
        """Whether the block in flight is a step with masks."""
        return self.in_flight is not None and self.in_flight.masked

    def forward(self) -> tuple[PendingStep[State], InFlight | None]:
        """Dispatches the first half of a step; `draw` must follow. Returns the block before it."""
        previous = self.take()
        self._state, step = self._engine.forward(self._state)
        return step, previous

    def draw(
        self, step: PendingStep[State], constraints: Constraints, prefills: int
    ) -> list[Emission]:
        """Makes the masks and dispatches the second half; returns the errors of their rows."""
        masks, failed = constraints.masks(self._slots)
        errors = self.end(failed)
        if self._slots:
            self._state, block = step.draw(self._state, self._features, masks)
            self._record(block, 1, prefills, masked=True)
        return errors

    def _record(self, block: PendingBlock, steps: int, prefills: int, *, masked: bool) -> None:
        """The block has been dispatched."""
        sequences, snapshots = list(self._slots), {}
        for sequence in sequences:
            if sequence.record_dispatch(steps):
                self._slots.release(sequence.slot, sequence)
            elif sequence.wants_snapshot:
                snapshots[sequence.slot] = self._engine.download(self._state, sequence.slot)
                sequence.wants_snapshot = False
        self.in_flight = InFlight(block, steps, prefills, masked, sequences, snapshots)

    def read(self, flight: InFlight, decoded: DecodedBlock, numbers: NumberCheck) -> list[Emission]:
        """What its sequences gained in a block. Raises WeightsError."""
        block, emissions = BlockRead(decoded), []
        ended = []  # by their grammars
        for sequence in flight.sequences:
            if sequence.finished:
                continue
            found = numbers.emitted(block.emission(sequence, flight.snapshots.get(sequence.slot)))
            emission = follow(sequence, found)
            emissions.append(emission)
            if found.finish is None and emission.finish is not None:
                ended.append(Ended(sequence, emission))
            elif emission.finish is not None:
                sequence.finish()
                self._slots.release(sequence.slot, sequence)
        self.end(ended)
        return emissions

    def cancel(self, key: Hashable) -> None:
        """Drops the sequence if it has a slot, or its last tokens are in flight."""
        for sequence in self.in_flight.sequences if self.in_flight else []:
            if sequence.request.key == key:
                sequence.finish()
        if (decoding := self._slots.find(key)) is not None:
            self.evict([decoding])

    def end(self, ended: Iterable[Ended]) -> list[Emission]:
        """Takes the slots of sequences that end; returns their last emissions."""
        ended = list(ended)
        self.evict([sequence for sequence, _ in ended])
        return [emission for _, emission in ended]

    def evict(self, sequences: Seq[Sequence]) -> None:
        """Takes their slots from sequences that the device would go on with."""
        for sequence in sequences:
            sequence.finish()
            self._slots.release(sequence.slot, sequence)
        if sequences:
            idle = {sequence.slot: None for sequence in sequences}
            self._state = self._engine.assign(self._state, idle)

    def drain(self) -> Iterable[Emission]:
        """Takes all slots, with a snapshot of each sequence. Nothing may be in flight."""
        for sequence in self._slots:
            state = snapshot(sequence, self._engine.download(self._state, sequence.slot))
            key, read = sequence.request.key, sequence.take_kept()
            yield Emission(key, NO_TOKENS, snapshot=state, read=read)
        self.evict(list(self._slots))


def params_of(sequence: Sequence, eos_ids: tuple[int, ...]) -> SlotParams:
    """What its slot needs to start decoding."""
    request = sequence.request
    generated = request.snapshot.generated if request.snapshot else 0
    before = (request.start.seen_ids(),) if request.start else ()
    return SlotParams(
        prompt=np.concatenate([*before, request.tokens]),
        sampling=request.sampling,
        draw=request.draw,
        remaining=sequence.limit,
        banned_for=max(0, request.sampling.min_tokens - generated),
        stop_ids=stop_ids(request, eos_ids),
        snapshot=request.snapshot.arrays if request.snapshot else {},
    )
