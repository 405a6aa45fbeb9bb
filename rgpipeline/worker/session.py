"""One engine's work: rows in, tokens to rows, rows out. All of it in one thread."""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from rgpipeline.assignments import Assignment, AssignmentKey
from rgpipeline.engine.loop import Loop
from rgpipeline.errors import WorkerError
from rgpipeline.io.committed_rows import Cover
from rgpipeline.records import Emission, SampleKey, Snapshot
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.worker.feeder import Feeder
from rgpipeline.worker.publisher import Covered, Publisher, Unfinished
from rgpipeline.worker.sample_rows import Assembly, Shape, ticker
from rgpipeline.worker.shard_output import Save
from rgpipeline.worker.shared import Batch, Held, WorkerPolicy
from rgpipeline.worker.snapshot_schedule import SnapshotsDue
from rgpipeline.worker.text_scores import scored_row
from rgpipeline.worker.texts import Texts, key_of
from rgpipeline.worker.worker_stats import Tally, View, look

_MOST_ROUNDS = 3


class Session:
    """Keeps the slots full from all held assignments together, and hands on what they bring."""

    def __init__(
        self,
        loop: Loop[Any, Any],
        feeder: Feeder,
        publisher: Publisher,
        tokenizer: Tokenizer | None,
        shape: Shape,
        policy: WorkerPolicy,
    ) -> None:
        self._loop = loop
        self._feeder = feeder
        self._publisher = publisher
        self._tokenizer = tokenizer
        self._shape = shape
        self._policy = policy
        self._held: dict[AssignmentKey, Held] = {}
        self._open: dict[Hashable, Assembly] = {}
        self._open_bytes = 0
        self._texts = Texts()
        self._covers: dict[int, Cover] = {}  # what others published of held shards, as far as known
        self._snapshots = SnapshotsDue(policy, shape.segment_tokens, loop.request_snapshot)
        self._draining = False
        self._newest = ""
        self.in_engine = False  # True while the engine works at rows, and where that has failed
        self.tally = Tally()
        self.view = View(slots=loop.slots)

    @property
    def beat(self) -> int:
        """Grows with the engine's progress."""
        return self._loop.beat

    def hold(self, assignments: Sequence[Assignment]) -> None:
        """Takes up what is new, drops what isn't named any more."""
        wanted = {assignment.key: assignment for assignment in assignments}
        for key, held in list(self._held.items()):
            if wanted.get(key) != held.assignment:
                held.dropped = True
                del self._held[key]
                self._abandon_held(held)
        for key, assignment in wanted.items():
            if key not in self._held:
                self._held[key] = Held(assignment)
                self._feeder.feed(self._held[key])
        shards = {key.shard for key in self._held}
        self._covers = {shard: c for shard, c in self._covers.items() if shard in shards}

    def step(self) -> bool:
        """One round: hear, admit, step the engine, collect. False when there was nothing to do."""
        self.in_engine = False
        self._hear()
        admitted = self._admit()
        self._look()
        if self._publisher.full:
            return False
        self.in_engine = True
        if self._loop.scoring:
            self._score()
        elif not self._loop.idle:
            self._step_engine()
        else:
            return admitted
        return True

    def drain(self) -> None:
        """Stops admitting; finished rows and the states of long sequences go to the publisher."""
        self._draining = True
        self._feeder.close()
        for emission in self._loop.drain():
            self._collect(emission, None, time.monotonic())
        self.view = View(slots=self._loop.slots, newest=self._newest)

    # Rows in

    def _hear(self) -> None:
        for news in self._publisher.news():
            if isinstance(news, Covered):
                self._covers[news.shard] = news.cover
                self._abandon(lambda _, key: self._final_elsewhere(key))
            elif isinstance(news, Unfinished):
                self._feed_again(news.held)
            else:
                self._abandon_held(news.held)

    def _final_elsewhere(self, key: SampleKey) -> bool:
        cover = self._covers.get(key.shard)
        return cover is not None and cover.final(key.row, key.sample)

    def _feed_again(self, held: Held) -> None:
        """Somebody else's rows changed what ours could add: what is missing is done again."""
        held.rounds += 1
        if held.rounds > _MOST_ROUNDS:
            shard, start, stop = held.assignment.key
            raise WorkerError(
                f"shard {shard}, rows {start} to {stop}: all were published and the log lacks some"
            )
        held.fed = False
        self._feeder.feed(held)

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
        open_bytes = self._open_bytes + self._texts.nbytes
        return starving or (waiting < policy.window * loop.slots and open_bytes < policy.open_bytes)

    def _take(self, batch: Batch) -> None:
        held = batch.held
        if not held.opened:
            held.opened = True
            self._publisher.open(held, batch.log, batch.input)
        self._publisher.add(held.assignment.shard.index, batch.refused)
        work = [one for one in batch.generate if not self._final_elsewhere(one.key)]
        for one in work:
            assembly = Assembly(held, one, self._tokenizer, self._shape)
            self._open[one.key] = assembly
            self._open_bytes += one.nbytes
        self._loop.submit([one.request for one in work])
        self._loop.submit_texts(self._texts.add(held, batch.score))
        held.open += len(work) + len(batch.score)
        held.fed = batch.last
        self._finish_if_done(held)

    # Tokens to rows

    def _step_engine(self) -> None:
        began, prefills = time.monotonic(), self._loop.prefills
        emissions = self._loop.step()
        now = time.monotonic()
        prefills = self._loop.prefills - prefills
        decode_s = self.tally.step(now - began, prefills, bool(emissions))
        for emission in emissions:
            self._collect(emission, decode_s, now)
        self._snapshots.request(self._publisher.saving)

    def _collect(self, emission: Emission, seconds: float | None, now: float) -> None:
        assembly = self._open.get(emission.key)
        if assembly is None:
            return
        if not assembly.begun:
            assembly.begun = True  # these are its first tokens: its prompt has been read
            self.tally.prompt_tokens += assembly.prompt_tokens
        before = assembly.generated
        rows = assembly.take(emission)
        gained = assembly.generated - before
        self.tally.emitted(gained, assembly.prompt_tokens + before, seconds)
        forget = assembly.key if assembly.finished and assembly.saved else None
        if rows:
            self._publisher.add(assembly.key.shard, rows, forget)
        if assembly.finished:
            if emission.finish is None:
                self._loop.cancel(emission.key)
            self._newest = ticker(rows) or self._newest
            self._close(assembly)
        elif emission.snapshot is not None:
            if not self._draining or self._snapshots.worth(assembly):
                self._save(assembly, emission.snapshot, now)
        else:
            self._snapshots.consider(assembly, now, cut=bool(rows))

    def _save(self, assembly: Assembly, snapshot: Snapshot, now: float) -> None:
        if assembly.generated != snapshot.generated:
            raise WorkerError(
                f"{assembly.key}: the engine's snapshot has {snapshot.generated} tokens, "
                f"{assembly.generated} were emitted"
            )
        self._publisher.save(Save(assembly.key, snapshot, assembly.notes()))
        self._snapshots.saved(assembly, now)

    def _score(self) -> None:
        """One call for texts to score."""
        began = time.monotonic()
        for scored in self._loop.score_step():
            self.tally.completion_tokens += scored.tokens
            if scored.logprobs is None or (held_text := self._texts.pop(scored.key)) is None:
                continue
            held, text = held_text
            self.tally.prompt_tokens += text.first
            row = scored_row(text, scored.logprobs)
            self._publisher.add(held.assignment.shard.index, [row])
            self._closed(held)
        self.tally.scored(time.monotonic() - began)

    # Ends

    def _abandon_held(self, held: Held) -> None:
        self._abandon(lambda owner, _: owner is held)

    def _abandon(self, needless: Callable[[Held, SampleKey], bool]) -> None:
        """Leaves off samples and texts whose rows nobody waits for any more."""
        for assembly in list(self._open.values()):
            if needless(assembly.held, assembly.key):
                self._loop.cancel(assembly.key)
                self._close(assembly)
        for held, text in self._texts.remove(needless):
            self._loop.cancel(key_of(held, text))
            self._closed(held)

    def _close(self, assembly: Assembly) -> None:
        del self._open[assembly.key]
        self._open_bytes -= assembly.nbytes
        self._snapshots.forget(assembly.key)
        self._closed(assembly.held)

    def _closed(self, held: Held) -> None:
        held.open -= 1
        self._finish_if_done(held)

    def _finish_if_done(self, held: Held) -> None:
        if held.fed and held.open == 0 and not held.dropped:
            self._publisher.finish(held)

    def _look(self) -> None:
        self.view = look(self._loop, self._newest, made_ready=self._feeder.at)
