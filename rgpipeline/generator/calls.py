"""One call: sequences to generate or texts to read, its progress, and what the caller gets."""

import sys
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.text_requests import TextRequest, TextResult
from rgpipeline.errors import RowError
from rgpipeline.generator.running_sequence import Call, Completion, RunningSequence
from rgpipeline.generator.shared_loop import SharedLoop
from rgpipeline.records import Request
from rgpipeline.tasks.score_task import Score, scores_of
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.wording import count, rate

_LINE_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1
_QUICK_S, _STAGE_EVERY_S = 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a call."""

    done: int  # completions, or scored prompts
    total: int
    tokens: int  # generated, or scored
    seconds: float  # since the call began


Watch = Callable[[Progress], None]


def watch_for(progress: bool | Watch) -> Watch:
    """Where progress goes: to the caller's function, to stderr for True, or nowhere."""
    if callable(progress):
        return progress
    return _Line(sys.stderr) if progress else lambda _: None


def stages_for(progress: bool | Callable[[str], None]) -> Callable[[str], None]:
    """Where an engine's long work is reported; see `Generator.load`."""
    if callable(progress):
        return progress
    return StageLines(sys.stderr) if progress else lambda text: None


class StageLines:
    """Writes what an engine is doing, when that takes more than two seconds.

    A line when the kind of work changes (`reading …`, `compiling …`), and every five seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._kind = ""
        self._said = 0.0
        self._quiet = False

    def __call__(self, text: str) -> None:
        now, kind = self._clock(), text.partition(" ")[0]
        if not text or self._quiet or now - self._began < _QUICK_S:
            return
        if kind != self._kind or now - self._said >= _STAGE_EVERY_S:
            self._kind, self._said = kind, now
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def stop(self) -> None:
        """Writes nothing more."""
        self._quiet = True


class _Line:
    """Progress on a terminal's last line; otherwise a line every ten seconds and at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._next = 0.0 if self._terminal else time.monotonic() + _LINE_EVERY_S

    def __call__(self, progress: Progress) -> None:
        ended = progress.done == progress.total
        if not ended and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (_DRAW_EVERY_S if self._terminal else _LINE_EVERY_S)
        speed = rate(progress.tokens / max(progress.seconds, 1e-9))
        line = (
            f"{count(progress.done)}/{count(progress.total)} done, "
            f"{count(progress.tokens)} tokens, {speed}"
        )
        if self._terminal:
            line = f"\r{line}\x1b[K"
        self._stream.write(line + ("\n" if ended or not self._terminal else ""))
        self._stream.flush()


def completions(
    loop: SharedLoop, tokenizer: Tokenizer | None, requests: Sequence[Request], watch: Watch
) -> Iterator[tuple[int, Completion]]:
    """Each request's completion with its index, as soon as it is finished."""
    began, call, done, reported = time.monotonic(), Call(), 0, -1
    running = {
        index: RunningSequence(request, index, call, tokenizer, keep=True)
        for index, request in enumerate(requests)
    }
    sequences = list(running.values())
    try:
        loop.begin(sequences)
        while running:
            if not call.finished:
                loop.advance()
            finished = _take_finished(call, running)
            done += len(finished)
            if call.tokens != reported or finished:
                reported = call.tokens
                watch(Progress(done, len(requests), reported, time.monotonic() - began))
            for sequence in finished:
                yield sequence.index, sequence.completion()
    finally:
        loop.end(sequences)


def pieces(loop: SharedLoop, tokenizer: Tokenizer, request: Request) -> Iterator[str]:
    """Pieces of one request's text as they come."""
    sequence = RunningSequence(request, 0, Call(), tokenizer, keep=False)
    try:
        loop.begin([sequence])
        running = True
        while running:
            if sequence.finish is None:  # a step of another call may have finished it
                loop.advance()
            running = sequence.finish is None
            if text := sequence.take_pieces():
                yield text
        if sequence.error is not None:
            raise RowError(sequence.error)
    finally:
        loop.end([sequence])


def scores(
    loop: SharedLoop, texts: Sequence[TextRequest], watch: Watch = lambda _: None
) -> list[NDArray[np.float32]]:
    """Log-probabilities float32 [n] of the n tokens of each text that are scored.

    Raises RowError for a text whose logits are not finite.
    """
    found = completion_scores(loop, texts, watch)
    return [score.token_logprobs for (score,) in found]


def completion_scores(
    loop: SharedLoop, requests: Sequence[TextRequest], watch: Watch
) -> list[list[Score]]:
    """The scores of each text's completions. Raises RowError where logits are not finite."""
    found = []
    results = read_texts(loop, requests, watch)
    for index, (request, result) in enumerate(zip(requests, results, strict=True)):
        try:
            found.append(scores_of(request, result))
        except RowError as error:
            raise RowError(f"prompt {index}: {error}") from None
    return found


def read_texts(loop: SharedLoop, requests: Sequence[TextRequest], watch: Watch) -> list[TextResult]:
    """The whole result of each text, in order; the requests' own keys don't matter.

    Each call to the device is a turn of its own, so that sequences of other threads continue in
    between. Texts of several threads are read one thread after the other.
    """
    began, tokens = time.monotonic(), 0
    call = object()  # tells these keys from those of other calls
    keys: list[Hashable] = [(call, index) for index in range(len(requests))]
    left = {key: replace(one, key=key) for key, one in zip(keys, requests, strict=True)}
    found: dict[Hashable, TextResult] = {}
    loop.opened()
    with loop.reading:
        try:
            while left:
                with loop.alone() as own:
                    if (
                        not own.reading_texts
                    ):  # the first time, or after another thread's step failed
                        own.submit_texts(left.values())
                    results = own.text_step()
                for result in results:
                    if result.key not in left:
                        continue  # of a call that was interrupted
                    tokens += result.tokens
                    if result.whole:
                        found[result.key] = result
                        del left[result.key]
                if results:
                    watch(Progress(len(found), len(keys), tokens, time.monotonic() - began))
        finally:
            if left and loop.usable:
                with loop.alone() as own:
                    for key in left:
                        own.cancel(key)
    return [found[key] for key in keys]


def _take_finished(call: Call, running: dict[int, RunningSequence]) -> list[RunningSequence]:
    """The sequences that have finished since the last time, removed from `running`."""
    finished = []
    while call.finished:
        sequence = running.pop(call.finished.popleft().index, None)
        if sequence is not None:
            finished.append(sequence)
    return finished
