"""One engine's work: rows in, tokens to rows, rows out. All of it in one thread."""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from rgpipeline.engine.loop import Loop
from rgpipeline.io.committed_rows import CommittedRows
from rgpipeline.records import Assignment, AssignmentKey, Emission, OutputRow, SampleKey, Snapshot
from rgpipeline.tasks.task import RowWork, SequenceWork, TextWork
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.worker.feeder import Feeder
from rgpipeline.worker.part_writer import Save
from rgpipeline.worker.publisher import Publisher
from rgpipeline.worker.running_sample import (
    CompletionFormat,
    RunningSample,
    RunningText,
    latest_completion,
)
from rgpipeline.worker.shared import (
    ActiveAssignment,
    Batch,
    PublishedByOthers,
    Unfinished,
    WorkerPolicy,
)
from rgpipeline.worker.snapshot_schedule import SnapshotSchedule
from rgpipeline.worker.worker_stats import EngineView, WorkerStats, view_of


class Session:
    """Keeps the slots full from all assignments together, and hands on what comes of them."""

    def __init__(
        self,
        loop: Loop[Any, Any],
        feeder: Feeder,
        publisher: Publisher,
        tokenizer: Tokenizer | None,
        format: CompletionFormat,
        policy: WorkerPolicy,
    ) -> None:
        self._loop = loop
        self._feeder = feeder
        self._publisher = publisher
        self._tokenizer = tokenizer
        self._format = format
        self._policy = policy
        self._active: dict[AssignmentKey, ActiveAssignment] = {}
        self._running: dict[Hashable, RunningSample | RunningText] = {}  # by SampleKey
        self._running_bytes = 0
        self._committed: dict[int, CommittedRows] = {}  # of shards to which others have published
        self._snapshots = SnapshotSchedule(policy, format.segment_tokens, loop.request_snapshot)
        self._draining = False
        self._latest = ""
        self.in_engine = False  # while the engine works on rows, and after it has failed there
        self.stats = WorkerStats()
        self.view = EngineView(slots=loop.slots)

    @property
    def progress_counter(self) -> int:
        """Grows with the engine's progress."""
        return self._loop.progress_counter

    def set_assignments(self, assignments: Sequence[Assignment]) -> None:
        """Starts the assignments that are new, and drops those that are not named."""
        wanted = {assignment.key: assignment for assignment in assignments}
        for key, active in list(self._active.items()):
            if wanted.get(key) != active.assignment:
                active.dropped = True
                del self._active[key]
        self._cancel(lambda one: one.active.dropped)
        for key, assignment in wanted.items():
            if key not in self._active:
                self._active[key] = ActiveAssignment(assignment)
                self._feeder.feed(self._active[key])
        shards = {key.shard for key in self._active}
        self._committed = {shard: c for shard, c in self._committed.items() if shard in shards}

    def step(self) -> bool:
        """Takes events, admits rows, and steps the engine; False when there was nothing to do."""
        self.in_engine = False
        self._take_events()
        admitted = self._admit()
        self.view = view_of(self._loop, self._latest, self._feeder.at)
        if self._publisher.full:
            return False
        self.in_engine = True
        if self._loop.reading_texts:
            self._step_texts()
        elif not self._loop.idle:
            self._step_sequences()
        else:
            return admitted
        return True

    def drain(self) -> None:
        """Stops admitting; finished rows and the states of long sequences go to the publisher."""
        self._draining = True
        self._feeder.close()
        for emission in self._loop.drain():
            self._collect(emission, None, time.monotonic())
        self.view = EngineView(slots=self._loop.slots, latest_completion=self._latest)

    # Rows in

    def _take_events(self) -> None:
        for event in self._publisher.events():
            if isinstance(event, PublishedByOthers):
                self._committed[event.shard] = event.committed
                self._cancel(lambda one: self._final_elsewhere(one.key))
            elif isinstance(event, Unfinished):
                self._feeder.feed_again(event.active)
            else:
                self._cancel(lambda one: one.active.dropped)

    def _final_elsewhere(self, key: SampleKey) -> bool:
        committed = self._committed.get(key.shard)
        return committed is not None and committed.final(key.row, key.sample)

    def _admit(self) -> bool:
        admitted = False
        while self._has_room() and (batch := self._feeder.take()) is not None:
            self._take(batch)
            admitted = True
        return admitted

    def _has_room(self) -> bool:
        loop, policy = self._loop, self._policy
        waiting = loop.waiting
        starving = waiting == 0 and loop.occupied < loop.slots
        return starving or (
            waiting < policy.window * loop.slots and self._running_bytes < policy.open_bytes
        )

    def _take(self, batch: Batch) -> None:
        active = batch.active
        if not active.opened:
            active.opened = True
            self._publisher.open(active, batch.log, batch.input)
        self._publisher.add(active.shard, batch.refused)
        work = [one for one in batch.work if not self._final_elsewhere(one.key)]
        for one in work:
            self._begin(active, one)
        self._loop.submit(one.request for one in work if isinstance(one, SequenceWork))
        if texts := [one.request for one in work if isinstance(one, TextWork)]:
            self._loop.submit_texts(texts)
        active.open += len(work)
        active.fed = batch.last
        self._finish_if_done(active)

    def _begin(self, active: ActiveAssignment, work: RowWork) -> None:
        if isinstance(work, SequenceWork):
            sample = RunningSample(active, work, self._tokenizer, self._format)
            self._running[work.key] = sample
        else:
            self._running[work.key] = RunningText(active, work)
        self._running_bytes += work.nbytes

    # Tokens to rows

    def _step_sequences(self) -> None:
        began, prefills = time.monotonic(), self._loop.prefills
        emissions = self._loop.step()
        now = time.monotonic()
        prefills = self._loop.prefills - prefills
        decode_s = self.stats.step(now - began, prefills, bool(emissions))
        for emission in emissions:
            self._collect(emission, decode_s, now)
        self._snapshots.request(self._publisher.saving)

    def _collect(self, emission: Emission, seconds: float | None, now: float) -> None:
        sample = self._running.get(emission.key)
        if not isinstance(sample, RunningSample):
            return
        if not sample.begun:
            sample.begun = True  # these are its first tokens: its prompt has been read
            self.stats.prompt_tokens += sample.prompt_tokens
        before = sample.generated
        rows = sample.take(emission)
        self.stats.emitted(sample.generated - before, sample.prompt_tokens + before, seconds)
        if sample.finished:
            self._end(sample, rows, cancel=emission.finish is None)
            return
        if rows:
            self._publisher.add(sample.key.shard, rows)
        if emission.snapshot is None:
            self._snapshots.consider(sample, now, cut=bool(rows))
        elif sample.may_be_saved and (not self._draining or self._snapshots.worth(sample)):
            self._save(sample, emission.snapshot, now)

    def _end(self, sample: RunningSample, rows: Sequence[OutputRow], *, cancel: bool) -> None:
        """Publishes a finished sample's last rows; or the chat that it is of goes on.

        `cancel`: the engine would go on with it.
        """
        if cancel:
            self._loop.cancel(sample.key)
        self._latest = latest_completion(rows) or self._latest
        if (following := sample.following()) is not None and not self._draining:
            self._running_bytes -= sample.nbytes
            self._begin(sample.active, following)
            self._loop.submit([following.request])
        elif following is None:
            forget = sample.key if sample.saved else None
            self._publisher.add(sample.key.shard, rows, forget, sample.state)
            self._close(sample)

    def _save(self, sample: RunningSample, snapshot: Snapshot, now: float) -> None:
        self._publisher.save(Save(sample.key, sample.snapshot(snapshot), sample.notes()))
        self._snapshots.saved(sample, now)

    def _step_texts(self) -> None:
        """One call to the engine for texts."""
        began = time.monotonic()
        for result in self._loop.text_step():
            self.stats.completion_tokens += result.tokens
            text = self._running.get(result.key) if result.whole else None
            if isinstance(text, RunningText):
                work = text.work
                self.stats.prompt_tokens += work.request.given
                self._publisher.add(text.active.shard, [work.output_row(work.row, result)])
                self._close(text)
        self.stats.read_texts(time.monotonic() - began)

    # Ends

    def _cancel(self, needless: Callable[[RunningSample | RunningText], bool]) -> None:
        """Drops samples and texts whose rows are not needed any more."""
        for one in list(self._running.values()):
            if needless(one):
                self._loop.cancel(one.key)
                self._close(one)

    def _close(self, one: RunningSample | RunningText) -> None:
        del self._running[one.key]
        self._running_bytes -= one.nbytes
        self._snapshots.forget(one.key)
        one.active.open -= 1
        self._finish_if_done(one.active)

    def _finish_if_done(self, active: ActiveAssignment) -> None:
        if active.fed and active.open == 0 and not active.dropped:
            self._publisher.finish(active)
