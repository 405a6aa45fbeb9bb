"""One engine for calls from any number of threads: rows in, output rows out, all in memory.

A worker has shards, parts and snapshots; here a call's rows come and go together. Rows of all
calls share the slots, so that these stay full while there are calls.
"""

import queue
import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from rgpipeline.engine.loop import Loop
from rgpipeline.errors import WorkerError
from rgpipeline.records import Assignment, Emission, OutputRow, SampleKey, Shard
from rgpipeline.tasks.task import RowWork, SequenceWork
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.worker.running_sample import CompletionFormat, RunningSample, RunningText
from rgpipeline.worker.shared import ActiveAssignment


@dataclass(slots=True, eq=False)
class _Call:
    """The rows of one call; `active.open` counts its pieces of work that are not finished."""

    active: ActiveAssignment
    work: Sequence[RowWork]
    done: list[OutputRow]
    answer: "Future[list[OutputRow]]" = field(default_factory=Future)


class RowService:
    """Does rows on one engine, in a thread of its own."""

    def __init__(
        self, loop: Loop[Any, Any], tokenizer: Tokenizer | None, format: CompletionFormat
    ) -> None:
        """`format.segment_tokens` is to be `running_sample.WHOLE`: completions are not cut."""
        self._loop = loop
        self._tokenizer = tokenizer
        self._format = format
        self._numbers = count()
        self._new: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._calls: dict[int, _Call] = {}
        self._running: dict[Hashable, RunningSample | RunningText] = {}  # by SampleKey
        self._error: Exception | None = None  # of the engine; it does nothing more
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def next_call(self) -> int:
        """The number of a new call: the `shard` of its rows' labels."""
        return next(self._numbers)

    def submit(
        self, call: int, work: Sequence[RowWork], refused: Sequence[OutputRow]
    ) -> "Future[list[OutputRow]]":
        """Has the work of a call's rows done.

        The answer has the output rows, those of `refused` included, by row and sample. It raises
        WorkerError when the engine fails. Any thread may call this.
        """
        new = _Call(ActiveAssignment(Assignment(Shard(call, ())), open=len(work)), work, [*refused])
        self._new.put(new)
        return new.answer

    def close(self) -> None:
        """Ends the thread, once it has done what was submitted."""
        self._new.put(None)

    def _run(self) -> None:
        try:
            while self._take_new():
                if self._loop.reading_texts:
                    self._step_texts()
                else:
                    self._step_sequences()
        except Exception as error:
            self._fail(error)

    def _take_new(self) -> bool:
        """Starts new calls; waits for one while there is nothing to do. False once closed."""
        while True:
            idle = self._loop.idle and not self._loop.reading_texts
            try:
                call = self._new.get(block=idle)
            except queue.Empty:
                return True
            if call is None:
                return False
            self._start(call)

    def _start(self, call: _Call) -> None:
        self._calls[call.active.shard] = call
        texts = []
        for one in call.work:
            if isinstance(one, SequenceWork):
                self._begin(call.active, one)
            else:
                self._running[one.key] = RunningText(call.active, one)
                texts.append(one.request)
        if texts:
            self._loop.submit_texts(texts)
        self._end_if_done(call)

    def _begin(self, active: ActiveAssignment, work: SequenceWork) -> None:
        self._running[work.key] = RunningSample(active, work, self._tokenizer, self._format)
        self._loop.submit([work.request])

    def _step_sequences(self) -> None:
        for emission in self._loop.step():
            sample = self._running.get(emission.key)
            if isinstance(sample, RunningSample):
                self._collect(sample, emission)

    def _collect(self, sample: RunningSample, emission: Emission) -> None:
        rows = sample.take(emission)
        if not sample.finished:
            return
        if emission.finish is None:
            self._loop.cancel(emission.key)
        if (turn := sample.following()) is not None:  # of a chat that is answered turn by turn
            self._begin(sample.active, turn)
        else:
            self._finish(sample.key, rows)

    def _step_texts(self) -> None:
        for result in self._loop.text_step():
            text = self._running.get(result.key) if result.whole else None
            if isinstance(text, RunningText):
                self._finish(text.key, [text.work.output_row(text.work.row, result)])

    def _finish(self, key: SampleKey, rows: Sequence[OutputRow]) -> None:
        del self._running[key]
        call = self._calls[key.shard]
        call.done += rows
        call.active.open -= 1
        self._end_if_done(call)

    def _end_if_done(self, call: _Call) -> None:
        if call.active.open == 0:
            del self._calls[call.active.shard]
            call.answer.set_result(sorted(call.done, key=lambda row: (row.row, row.sample)))

    def _fail(self, error: Exception) -> None:
        """Every call fails from now on."""
        while True:
            for call in self._calls.values():
                call.answer.set_exception(WorkerError(f"the engine failed: {error!r}"))
            self._calls.clear()
            new = self._new.get()
            if new is None:
                return
            self._calls[new.active.shard] = new
