"""Where tokens come from. One step: prefill, insert, dispatch a decode block, read the one before.

The host is one block behind the device: while block n + 1 runs, it reads block n, and the caller of
`step` detokenises it. A slot is free for the next sequence as soon as blocks up to its sequence's
limit are dispatched; after a stop token, as soon as that is read. (With masks: see `read_order`.)
"""

from collections.abc import Hashable, Iterable
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Engine, Rows, State
from rgpipeline.engine.checks import NumberCheck, check_request, check_text
from rgpipeline.engine.constrained import Constraints, failure
from rgpipeline.engine.decoder import Decoder
from rgpipeline.engine.grammar_protocol import Grammars
from rgpipeline.engine.prefill.admission import Admission
from rgpipeline.engine.prefill.text_queue import TextQueue
from rgpipeline.engine.read_order import ReadOrder
from rgpipeline.engine.sequence import IndexPool, InFlight
from rgpipeline.engine.step_tuner import UNDISTURBED_BLOCKS, StepTuner
from rgpipeline.engine.text_requests import TextRequest, TextResult
from rgpipeline.errors import RowError
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Emission, Request

# Prefill calls between two decode blocks, at most. A block takes the same time however many slots
# are empty, so they are filled first; but decoding must go on while prompts keep coming.
MAX_PREFILLS_PER_STEP = 64
MAX_PREFILLS_WITHOUT_DECODE = 8  # the caller of `step` may want to stop


class Loop(Generic[State, Rows]):
    """Keeps one engine's slots busy: submit requests, call `step` until idle."""

    def __init__(
        self,
        engine: Engine[State, Rows],
        *,
        prefix_states: int = 0,
        tuner: StepTuner | None = None,
        grammars: Grammars[Any] | None = None,
        read_order: ReadOrder | None = None,
    ) -> None:
        """`prefix_states`: states of shared prompt prefixes to keep at most.
        `tuner`: for an engine whose blocks may have any number of steps; `read_order`: with masks.
        `grammars`: without them, a request with a grammar is refused.
        """
        self._engine = engine
        self._prefix_states = prefix_states
        self._tuner = tuner or StepTuner(engine.steps)
        self._read_order = read_order or ReadOrder()
        self._constraints = Constraints(grammars, engine.slots, engine.vocab_size)
        self.numbers = NumberCheck()
        self.progress_counter = 0  # grows with every prefill call and every block read
        self.prefills = 0  # prefill calls so far
        self._make_states()

    def _make_states(self) -> None:
        engine = self._engine
        self._slots = IndexPool(engine.slots, engine.parts)
        self._decoder = Decoder(engine, self._slots)
        self._admission = Admission(engine, self._slots, self._prefix_states)
        self._texts = TextQueue(engine, self._prefix_states)
        self._undisturbed = 0  # blocks dispatched since the last prefill call
        self._refused: list[Emission] = []

    def step(self) -> list[Emission]:
        """Prefills, dispatches a block, and returns the emissions of the block before it."""
        self._prefill()
        emissions = self._read_first()
        refused, self._refused = self._refused, []
        decode = self._masked_step if self._decoder.needs_masks else self._block
        return refused + emissions + decode() + self._admission.take_read()

    def _read_first(self) -> list[Emission]:
        """Reads a step with masks, so that waiting sequences get the slots that it frees."""
        if not self._decoder.masked:
            self._read_order.interrupt()
        elif self._read_order.choose():
            emissions = self._read(self._decoder.take())
            self._prefill()
            return emissions
        return []

    def _prefill(self) -> None:
        self._insert()
        if self._tuner.searching and self._slots and self._undisturbed < UNDISTURBED_BLOCKS:
            return  # don't time blocks that overlap prefill
        for made in range(MAX_PREFILLS_PER_STEP):
            if made >= MAX_PREFILLS_WITHOUT_DECODE and not self._slots:
                return
            if not self._admission.prefill():
                return
            self.prefills += 1
            self._undisturbed = 0
            self.progress_counter += 1
            self._insert()

    def _insert(self) -> None:
        sequences = self._decoder.insert(self._admission)
        ended = self._constraints.begin(sequences, self._engine.eos_ids)
        self._refused += self._decoder.end(ended)

    def _masked_step(self) -> list[Emission]:
        """One step, whose draw waits for masks; they are made while the device computes."""
        self._admission.record_steps(1)
        self._undisturbed = UNDISTURBED_BLOCKS  # it is not timed
        step, previous = self._decoder.forward()
        self._read_order.record_forward(self.prefills)
        return self._read(previous) + self._decoder.draw(step, self._constraints, self.prefills)

    def _block(self) -> list[Emission]:
        steps = self._tuner.steps
        self._admission.record_steps(steps)
        previous = self._decoder.decode(steps, self.prefills)
        if self._decoder.in_flight is not None:
            self._undisturbed += 1
        elif previous is None:
            self._admission.wait()  # only prompts are read: don't run ahead of the device
        return self._read(previous)

    def _read(self, flight: InFlight | None) -> list[Emission]:
        if flight is None:
            return []
        block, before = flight.block.read(), len(self._slots)
        self._read_order.record_read()
        emissions = self._decoder.read(flight, block, self.numbers)
        if flight.masked:
            self._tuner.interrupt()
            self._read_order.record_ended(before, self._slots, self._admission.waiting)
        elif self._tuner.searching:
            self._tuner.record_block(flight.steps, flight.prefills, self.prefills, flight.tokens)
        self.progress_counter += 1
        return emissions

    def submit(self, requests: Iterable[Request]) -> None:
        """Queues requests. One that can't be done comes back as an emission with its error."""
        for request in requests:
            try:
                self.check(request)
                self._admission.add(request)
            except RowError as error:
                self._refused.append(failure(request, str(error)))

    def cancel(self, key: Hashable) -> None:
        """Drops a sequence or a text; nothing more of it is emitted."""
        self._admission.drop(key)
        self._texts.drop(key)
        self._decoder.cancel(key)

    def request_snapshot(self, key: Hashable) -> None:
        """One of the sequence's next emissions carries the state after its tokens."""
        if (sequence := self._slots.find(key)) is not None:
            sequence.wants_snapshot = True

    def drain(self) -> list[Emission]:
        """Reads what is in flight; then every sequence in a slot is emitted with a snapshot.

        All slots and queues are empty afterwards. Sequences that had not begun to decode, and all
        texts, are dropped without an emission.
        """
        emissions = [*self._refused, *self._read(self._decoder.take()), *self._decoder.drain()]
        self._refused = []
        self._admission.drop_all()
        self._texts.drop()
        return emissions

    def use_grammars(self, grammars: Grammars[Any]) -> None:
        """From now on, requests may have grammars; their tokenizer is opened after the engine."""
        self._constraints = Constraints(grammars, self.slots, self.vocab_size)

    def reset(self) -> None:
        """Drops all requests and makes new states: a step that raised has lost them."""
        del self._decoder, self._admission, self._texts  # their memory is needed
        self._make_states()

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def vocab_size(self) -> int:
        """Token ids are in [0, vocab_size)."""
        return self._engine.vocab_size

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a sequence unless `ignore_eos`."""
        return self._engine.eos_ids

    @property
    def width(self) -> int:
        """Length of a position's hidden values."""
        return self._engine.width

    @property
    def occupied(self) -> int:
        """Sequences in slots, and texts that are being read."""
        return len(self._slots) + self._texts.reading

    @property
    def waiting(self) -> int:
        """Sequences without a slot, and texts that are not being read yet."""
        return self._admission.waiting + self._texts.waiting

    @property
    def reading(self) -> tuple[int, int]:
        """(tokens read, tokens) of prompts and texts being read; any thread may ask."""
        (read, whole), (text_read, texts) = self._admission.progress, self._texts.progress
        return read + text_read, whole + texts

    @property
    def idle(self) -> bool:
        """True when `step` has nothing to do."""
        waiting = self._admission.waiting
        return not (self._slots or waiting or self._decoder.in_flight or self._refused)

    @property
    def working_on(self) -> list[Hashable]:
        """Keys of the requests and texts that the next step may work on."""
        in_slots = (sequence.request.key for sequence in self._slots)
        return [*in_slots, *self._admission.prefilling, *self._texts.working_on]

    @property
    def reading_texts(self) -> bool:
        """True when `text_step` has something to do."""
        return not self._texts.idle

    def submit_texts(self, texts: Iterable[TextRequest]) -> None:
        """Queues texts for `text_step`."""
        self._admission.release_buffer()
        for text in texts:
            self._texts.add(text)

    def text_step(self) -> list[TextResult]:
        """One call for texts; returns the results of the call before it."""
        self.progress_counter += 1
        return self.numbers.of_texts(self._texts.step())

    def check(self, request: Request) -> None:
        """Raises RowError if the request can't be done."""
        check_request(request, self._engine.state_kind, self._engine.eos_ids)
        self._constraints.check(request)

    def check_tokens(self, tokens: NDArray[np.integer[Any]], start: ReadText | None = None) -> None:
        """Raises RowError if a text of these tokens can't be read, or not after `start`."""
        check_text(tokens, start, self._engine.state_kind)
