"""Where tokens come from: admit, prefill, dispatch, read, finish.

The host is one block behind the device: while block n + 1 runs, it reads block n and whoever called
`step` detokenises it. A slot whose limit is sure to be reached is handed on at dispatch; one that
ends by a stop token is handed on when that is read.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import (
    IDLE,
    LAST,
    MAX_STOP_IDS,
    STOPPED,
    DecodedBlock,
    Engine,
    PendingBlock,
    Rows,
    State,
    Tenancy,
)
from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.engine.prefill_queue import PrefillQueue
from rgpipeline.engine.prefixes import PrefixCache
from rgpipeline.engine.scheduler import Waiting
from rgpipeline.engine.slots import Slots, Tenant
from rgpipeline.errors import RowError
from rgpipeline.records import Emission, FinishReason, Request, Snapshot, TokenLogprobs

# Prefill calls between two decode blocks at most, so that a long prompt doesn't stall the others.
PACKS_PER_STEP = 8

_NO_TOKENS = np.zeros((0,), np.int32)


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A dispatched block, with who sat where."""

    block: PendingBlock
    tenants: list[Tenant]
    snapshots: Mapping[int, Mapping[str, NDArray[np.generic]]]  # by slot


class Loop(Generic[State, Rows]):
    """One engine's slots kept busy: submit requests, call `step` until idle."""

    def __init__(self, engine: Engine[State, Rows], *, prefix_states: int = 0) -> None:
        """`prefix_states`: states of shared prompt prefixes to keep at most."""
        self._engine = engine
        self._features = SamplingFeatures()
        self._state = engine.init(self._features)
        self._slots = Slots(engine.slots)
        self._waiting = Waiting()
        self._held: list[Tenant] = []  # in slots, waiting for a prefix another slot prefills
        self._prefilling = PrefillQueue(engine.pack_shapes, engine.slots)
        self._prefixes = PrefixCache[Rows](max(t for _, t in engine.pack_shapes), prefix_states)
        self._in_flight: _InFlight | None = None
        self._refused: list[Emission] = []
        self.beat = 0  # grows with every prefill call and every block read

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def occupied(self) -> int:
        return self._slots.occupied

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """True when `step` has nothing to do."""
        return not (self._slots.occupied or self._waiting or self._in_flight or self._refused)

    @property
    def working_on(self) -> list[Hashable]:
        """Keys of the requests in slots."""
        return [tenant.request.key for tenant in self._slots]

    def submit(self, requests: Iterable[Request]) -> None:
        """Queues requests; one that can't be done comes back as an emission with its error."""
        for request in requests:
            fault = self._fault(request)
            if fault is not None:
                self._refused.append(Emission(request.key, _NO_TOKENS, "error", error=fault))
                continue
            self._features = self._features | SamplingFeatures.of(request.sampling)
            fresh = request.snapshot is None
            prefixes = self._prefixes.expect(request.tokens[:-1]) if fresh else []
            self._waiting.add(request, prefixes)

    def step(self) -> list[Emission]:
        """Admits, prefills, dispatches a block, and returns what the block before it brought."""
        self._admit()
        self._prefill()
        previous, self._in_flight = self._in_flight, self._dispatch()
        if previous is None and self._in_flight is None:
            self._engine.wait(self._state)  # nothing but prefill to do: don't run ahead of it
        refused, self._refused = self._refused, []
        return refused + (self._read(previous) if previous else [])

    def cancel(self, key: Hashable) -> None:
        """Drops a sequence; nothing more of it is emitted."""
        prefixes = self._waiting.remove(key)
        if prefixes is not None:
            self._prefixes.forget(prefixes, None)
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

        All slots and the queue are empty afterwards; sequences that had not begun to decode are
        dropped without an emission.
        """
        previous, self._in_flight = self._in_flight, None
        emissions = self._refused + (self._read(previous) if previous else [])
        self._refused = []
        for tenant in self._slots:
            if tenant.decoding:
                arrays = self._engine.download(self._state, tenant.slot)
                snapshot = _snapshot(tenant, arrays)
                emissions.append(Emission(tenant.request.key, _NO_TOKENS, snapshot=snapshot))
            self._evict(tenant)
        while self._waiting:
            self._prefixes.forget(self._waiting.pop()[1], None)
        return emissions

    def score(self, texts: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, [len - 1] for each text."""
        self.beat += 1
        return self._engine.score(texts)

    def check_tokens(self, tokens: NDArray[np.int32]) -> None:
        """Raises RowError when `tokens`, [n], can't be a prompt or a text to score."""
        if len(tokens) == 0:
            raise RowError("the prompt has no tokens; give at least one (BOS for an empty text)")
        vocab = self._engine.vocab_size
        least, most = int(tokens.min()), int(tokens.max())
        if least < 0 or most >= vocab:
            worst = least if least < 0 else most
            raise RowError(f"token id {worst} is outside the model's vocabulary of {vocab}")

    def _fault(self, request: Request) -> str | None:
        try:
            self.check_tokens(request.tokens)
        except RowError as error:
            return str(error)
        vocab = self._engine.vocab_size
        outside = [i for i in request.sampling.logit_bias if not 0 <= i < vocab]
        if outside:
            return f"logit_bias names token id {outside[0]}, outside the vocabulary of {vocab}"
        limit, snapshot = request.sampling.max_tokens, request.snapshot
        if snapshot is not None and limit is not None and snapshot.generated >= limit:
            return f"its snapshot holds {snapshot.generated} tokens, all of max_tokens {limit}"
        if len(self._stop_ids(request)) > MAX_STOP_IDS:
            return f"more than {MAX_STOP_IDS} stop ids (end-of-sequence included); name fewer"
        return None

    def _stop_ids(self, request: Request) -> tuple[int, ...]:
        ends = () if request.sampling.ignore_eos else self._engine.eos_ids
        return tuple(dict.fromkeys((*ends, *request.sampling.stop_ids)))

    def _admit(self) -> None:
        if self._waiting and self._slots.free:
            self._state = self._engine.widen(self._state, self._features)
        while self._waiting and self._slots.free:
            request, prefixes = self._waiting.pop()
            self._held.append(self._slots.admit(request, prefixes))
        held, self._held = self._held, []
        starting = []
        for tenant in held:
            if not self._prefixes.claim(tenant.prefixes, tenant.slot):
                self._held.append(tenant)
            elif self._seat(tenant):
                starting.append(tenant)
        self._start(starting)

    def _seat(self, tenant: Tenant) -> bool:
        """Puts into the slot what exists of the request's state; True if it can decode at once."""
        if tenant.request.snapshot is not None:
            rows = self._engine.upload(tenant.request.snapshot.arrays)
            self._state = self._engine.insert(self._state, tenant.slot, rows)
            return True
        done, copied = self._prefixes.longest(tenant.prefixes)
        if copied is not None:
            self._state = self._engine.insert(self._state, tenant.slot, copied)
        if copied is not None and done == tenant.prefill_tokens:
            self._prefixes.forget(tenant.prefixes, tenant.slot)
            return True
        # A prompt of one token has nothing to prefill, but its slot must be made fresh.
        tokens = tenant.request.tokens[:-1]
        self._prefilling.add(tenant.slot, tokens, done, fresh=copied is None)
        return False

    def _prefill(self) -> None:
        for _ in range(PACKS_PER_STEP):
            call = self._prefilling.next_pack(hurry=not self._slots.decoding())
            if call is None:
                return
            pack, progress = call
            self._state = self._engine.prefill(self._state, pack)
            self.beat += 1
            starting = []
            for slot, done in progress:
                tenant = self._slots.at(slot)
                prefix = self._prefixes.reached(tenant.prefixes, done)
                if prefix is not None:
                    self._prefixes.keep(prefix, self._engine.extract(self._state, slot))
                if done == tenant.prefill_tokens:
                    self._prefixes.forget(tenant.prefixes, slot)
                    starting.append(tenant)
            self._start(starting)

    def _start(self, tenants: Sequence[Tenant]) -> None:
        if not tenants:
            return
        tenancies: dict[int, Tenancy | None] = {t.slot: self._tenancy(t) for t in tenants}
        self._state = self._engine.assign(self._state, tenancies)
        for tenant in tenants:
            tenant.decoding = True

    def _tenancy(self, tenant: Tenant) -> Tenancy:
        request, sampling = tenant.request, tenant.request.sampling
        generated, token, seen = 0, int(request.tokens[-1]), None
        if request.snapshot is not None:
            generated = request.snapshot.generated
            token = int(request.snapshot.arrays["token"])
            seen = request.snapshot.arrays.get("seen")
        return Tenancy(
            token=token,
            remaining=tenant.limit,
            banned_for=max(0, sampling.min_tokens - generated),
            stop_ids=self._stop_ids(request),
            sampling=sampling,
            draw=request.draw,
            prompt=request.tokens,
            seen=None if seen is None else seen.astype(np.int32),
        )

    def _dispatch(self) -> _InFlight | None:
        tenants = self._slots.decoding()
        self._prefilling.wait()
        if not tenants:
            return None
        self._state, block = self._engine.decode(self._state)
        snapshots = {}
        for tenant in tenants:
            tenant.dispatched += self._engine.steps
            if tenant.wants_snapshot and not tenant.surely_done:
                snapshots[tenant.slot] = self._engine.download(self._state, tenant.slot)
                tenant.wants_snapshot = False
            if tenant.surely_done:
                self._slots.release(tenant)
        return _InFlight(block, tenants, snapshots)

    def _read(self, flight: _InFlight) -> list[Emission]:
        block = flight.block.read()
        self.beat += 1
        emissions = []
        for tenant in flight.tenants:
            if not tenant.gone:
                emissions.append(self._emission(tenant, block, flight))
        return emissions

    def _emission(self, tenant: Tenant, block: DecodedBlock, flight: _InFlight) -> Emission:
        slot = tenant.slot
        codes = block.codes[:, slot]
        emitted = int(np.count_nonzero((codes != IDLE) & (codes != STOPPED)))
        tenant.generated += emitted
        finish = _finish(codes)
        if finish is not None:
            tenant.gone = True
            self._slots.release(tenant)
        arrays = flight.snapshots.get(slot)
        wanted = arrays is not None and finish is None
        return Emission(
            key=tenant.request.key,
            token_ids=block.tokens[:emitted, slot].copy(),
            finish=finish,
            logprobs=_logprobs(block, slot, emitted, tenant.request.sampling.logprobs),
            snapshot=_snapshot(tenant, arrays) if wanted and arrays is not None else None,
        )

    def _evict(self, tenant: Tenant) -> None:
        tenant.gone = True
        if tenant.decoding:
            self._state = self._engine.assign(self._state, {tenant.slot: None})
        else:
            self._prefilling.remove(tenant.slot)
            self._held = [held for held in self._held if held is not tenant]
            self._prefixes.forget(tenant.prefixes, tenant.slot)
        self._slots.release(tenant)


def _finish(codes: NDArray[np.int8]) -> FinishReason | None:
    if STOPPED in codes:
        return "stop"
    return "length" if LAST in codes else None


def _snapshot(tenant: Tenant, arrays: Mapping[str, NDArray[np.generic]]) -> Snapshot:
    before = tenant.request.snapshot.generated if tenant.request.snapshot else 0
    read = {name: np.asarray(array) for name, array in arrays.items()}
    return Snapshot(arrays=read, generated=before + tenant.generated)


def _logprobs(block: DecodedBlock, slot: int, emitted: int, wanted: int) -> TokenLogprobs | None:
    if not wanted or block.logprobs is None:
        return None
    top = wanted if wanted > 1 else 0
    return TokenLogprobs(
        sampled=block.logprobs.sampled[:emitted, slot].copy(),
        top_ids=block.logprobs.top_ids[:emitted, slot, :top].copy(),
        top=block.logprobs.top[:emitted, slot, :top].copy(),
    )
