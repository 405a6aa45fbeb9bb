"""Where tokens come from: prefill, seat, dispatch, read, finish.

The host is one block behind the device: while block n + 1 runs, it reads block n and whoever called
`step` detokenises it. A slot whose limit is sure to be reached is handed on at dispatch; one that
ends by a stop token is handed on when that is read.
"""

from collections.abc import Hashable, Iterable, Sequence
from statistics import mean
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import UNLIMITED, Engine, Rows, State
from rgpipeline.engine.checks import NumberCheck, request_fault, require_none, stop_ids, token_fault
from rgpipeline.engine.prefill.admission import Seating
from rgpipeline.engine.prefill.text_scorer import Scoring, score_all
from rgpipeline.engine.sequence import BlockRead, InFlight, Slots, Tenant, snapshot
from rgpipeline.engine.slot_fields import SamplingFeatures, slot_params
from rgpipeline.engine.step_tuner import QUIET, TOKENS, Pace
from rgpipeline.records import Emission, Request, Scored, ScoreRequest

# Prefill calls between two decode blocks at most. A block costs the same however many slots are
# empty, so they are filled first; but nobody waits for ever while prompts keep coming.
PACKS_PER_STEP = 64
# And before whoever calls `step` hears again, where nothing is decoded: it may have to leave.
PACKS_BEFORE_DECODE = 8

_NO_TOKENS = np.zeros((0,), np.int32)


class Loop(Generic[State, Rows]):
    """One engine's slots kept busy: submit requests, call `step` until idle."""

    def __init__(
        self, engine: Engine[State, Rows], *, prefix_states: int = 0, pace: Pace | None = None
    ) -> None:
        """`prefix_states`: states of shared prompt prefixes to keep at most.
        `pace`: of an engine whose blocks may have any number of steps.
        """
        self._engine = engine
        self._prefix_states = prefix_states
        self._pace = pace or Pace(engine.steps)
        self.numbers = NumberCheck()  # ends the work when no row has numbers
        self.beat = 0  # grows with every prefill call and every block read
        self.prefills = 0  # prefill calls, to tell a step's prefill from its decode
        self._make_states()

    def _make_states(self) -> None:
        engine = self._engine
        self._features = SamplingFeatures()
        self._state = engine.init(self._features)
        self._slots = Slots(engine.slots, engine.parts)
        self._seating = Seating(engine, self._slots, self._prefix_states)
        self._scoring = Scoring(engine, self._prefix_states)
        self._in_flight: InFlight | None = None
        self._quiet = 0  # blocks dispatched since the last prefill call
        self._refused: list[Emission] = []

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def vocab_size(self) -> int:
        """Token ids are in [0, vocab_size)."""
        return self._engine.vocab_size

    @property
    def occupied(self) -> int:
        """Sequences in slots, and texts that are being scored."""
        return self._slots.occupied + self._scoring.reading

    @property
    def waiting(self) -> int:
        return self._seating.waiting + self._scoring.waiting

    @property
    def reading(self) -> tuple[int, int]:
        """(tokens read, tokens) of prompts and texts being read; other threads may ask, too."""
        (read, whole), (scored, to_score) = self._seating.progress, self._scoring.progress
        return read + scored, whole + to_score

    @property
    def idle(self) -> bool:
        """True when `step` has nothing to do."""
        waiting = self._seating.waiting
        return not (self._slots.occupied or waiting or self._in_flight or self._refused)

    @property
    def working_on(self) -> list[Hashable]:
        """Keys of the requests and texts that the next step may have to do with."""
        in_slots = (tenant.request.key for tenant in self._slots)
        return [*in_slots, *self._seating.at_hand, *self._scoring.working_on]

    def submit(self, requests: Iterable[Request]) -> None:
        """Queues requests; one that can't be done comes back as an emission with its error."""
        for request in requests:
            fault = request_fault(request, self._engine.vocab_size, self._engine.eos_ids)
            if fault is None:
                self._seating.add(request)
            else:
                self._refused.append(Emission(request.key, _NO_TOKENS, "error", error=fault))

    def step(self) -> list[Emission]:
        """Prefills, dispatches a block, and returns what the block before it brought."""
        self._prefill()
        previous, self._in_flight = self._in_flight, self._dispatch()
        if previous is None and self._in_flight is None:
            self._seating.catch_up()  # nothing but prefill to do: don't run ahead of it
        refused, self._refused = self._refused, []
        return refused + (self._read(previous) if previous else [])

    def cancel(self, key: Hashable) -> None:
        """Drops a sequence or a text; nothing more of it is emitted."""
        self._seating.drop(key)
        self._scoring.drop(key)
        for leaving in self._in_flight.tenants if self._in_flight else []:
            leaving.gone = leaving.gone or leaving.request.key == key
        tenant = self._slots.find(key)
        if tenant is not None:
            self._evict(tenant)

    def request_snapshot(self, key: Hashable) -> None:
        """One of the sequence's next emissions carries the state after its tokens."""
        tenant = self._slots.find(key)
        if tenant is not None:
            tenant.wants_snapshot = True

    def drain(self) -> list[Emission]:
        """Reads what is in flight; then every sequence in a slot is emitted with a snapshot.

        All slots and queues are empty afterwards; sequences that had not begun to decode, and texts
        to score, are dropped without an emission.
        """
        previous, self._in_flight = self._in_flight, None
        emissions = self._refused + (self._read(previous) if previous else [])
        self._refused = []
        for tenant in self._slots:
            state = snapshot(tenant, self._engine.download(self._state, tenant.slot))
            emissions.append(Emission(tenant.request.key, _NO_TOKENS, snapshot=state))
            self._evict(tenant)
        self._seating.drop_all()
        self._scoring.drop()
        return emissions

    def reset(self) -> None:
        """Drops all requests and makes the states anew: after a step that raised, they are lost."""
        del self._state, self._seating, self._scoring  # their memory is needed
        self._make_states()

    @property
    def scoring(self) -> bool:
        """True when `score_step` has something to do."""
        return not self._scoring.idle

    def submit_texts(self, texts: Iterable[ScoreRequest]) -> None:
        """Queues texts for `score_step`."""
        self._seating.release()
        for text in texts:
            self._scoring.add(text)

    def score_step(self) -> list[Scored]:
        """One call for texts to score; what the call before it brought."""
        self.beat += 1
        return self.numbers.scored(self._scoring.step())

    def score(self, texts: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, [len - 1] for each text."""
        self._seating.release()
        try:
            return self.numbers.of_scores(score_all(self._scoring, texts))
        finally:  # if it is broken off, its states are lost
            self._scoring = Scoring(self._engine, self._prefix_states)

    def check(self, request: Request) -> None:
        """Raises RowError if the request can't be done."""
        require_none(request_fault(request, self._engine.vocab_size, self._engine.eos_ids))

    def check_tokens(self, tokens: NDArray[np.integer[Any]]) -> None:
        """Raises RowError if a text of these tokens can't be read."""
        require_none(token_fault(tokens, self._engine.vocab_size))

    def _prefill(self) -> None:
        self._seat()
        if self._pace.searching and self._quiet < QUIET and self._slots.occupied:
            return  # blocks beside which prompts are read can't be timed
        for made in range(PACKS_PER_STEP):
            if made >= PACKS_BEFORE_DECODE and not self._slots.occupied:
                return
            if not self._seating.prefill():
                return
            self.prefills += 1
            self._quiet = 0
            self.beat += 1
            self._seat()

    def _seat(self) -> None:
        self._state, tenants = self._seating.seat(self._state)
        if not tenants:
            return
        features = SamplingFeatures.union(t.request.sampling for t in tenants) | self._features
        if features != self._features:
            self._state = self._engine.widen(self._state, features)
            self._features = features
        params = {
            t.slot: slot_params(t.request, t.limit, stop_ids(t.request, self._engine.eos_ids))
            for t in tenants
        }
        self._state = self._engine.assign(self._state, params)

    def _dispatch(self) -> InFlight | None:
        tenants, steps = list(self._slots), self._pace.steps
        self._seating.wait(steps)
        if not tenants:
            return None
        self._state, block = self._engine.decode(self._state, self._features, steps)
        self._quiet += 1
        snapshots = {}
        for tenant in tenants:
            tenant.dispatched += steps
            if tenant.wants_snapshot and not tenant.surely_done:
                snapshots[tenant.slot] = self._engine.download(self._state, tenant.slot)
                tenant.wants_snapshot = False
            if tenant.surely_done:
                self._slots.release(tenant)
        return InFlight(block, steps, self.prefills, tenants, snapshots)

    def _read(self, flight: InFlight) -> list[Emission]:
        block = BlockRead(flight.block.read())
        if self._pace.searching:
            tokens = mean(t.limit if t.limit != UNLIMITED else TOKENS for t in flight.tenants)
            self._pace.read(flight.steps, flight.prefills, self.prefills, tokens)
        self.beat += 1
        emissions = []
        for tenant in flight.tenants:
            if tenant.gone:
                continue
            emission = block.emission(tenant, flight.snapshots.get(tenant.slot))
            emissions.append(self.numbers.emitted(emission))
            if emissions[-1].finish is not None:
                tenant.gone = True
                self._slots.release(tenant)
        return emissions

    def _evict(self, tenant: Tenant) -> None:
        tenant.gone = True
        self._state = self._engine.assign(self._state, {tenant.slot: None})
        self._slots.release(tenant)
