"""One call's sequences, from their requests to what the caller gets."""

import time
from collections.abc import Hashable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.checks import NO_NUMBERS, without_numbers
from rgpipeline.errors import RowError
from rgpipeline.generator.call_progress import Progress, Watch
from rgpipeline.generator.running_sequence import Call, Completion, RunningSequence
from rgpipeline.generator.shared_loop import SharedLoop
from rgpipeline.records import Request, ScoreRequest
from rgpipeline.text.completion import CompletionText
from rgpipeline.text.tokenizer import Tokenizer


def results(
    loop: SharedLoop, tokenizer: Tokenizer | None, requests: Sequence[Request], watch: Watch
) -> Iterator[tuple[int, Completion]]:
    """Each request's completion as soon as it is finished, with its index."""
    began, call, done, told = time.monotonic(), Call(), 0, -1
    sequences = {
        index: _running(request, index, call, tokenizer, keep=True)
        for index, request in enumerate(requests)
    }
    left = dict(sequences)
    try:
        loop.begin(sequences.values())
        while left:
            if not call.finished:
                loop.advance()
            finished = _taken(call, left)
            done += len(finished)
            if call.tokens != told or finished:
                told = call.tokens
                watch(Progress(done, len(requests), told, time.monotonic() - began))
            for sequence in finished:
                yield sequence.index, sequence.completion()
    finally:
        loop.end(sequences.values())


def pieces(loop: SharedLoop, tokenizer: Tokenizer, request: Request) -> Iterator[str]:
    """Pieces of one request's text as they come."""
    sequence = _running(request, 0, Call(), tokenizer, keep=False)
    try:
        loop.begin([sequence])
        going = True
        while going:
            if sequence.finish is None:  # another call's steps may have brought its end
                loop.advance()
            going = sequence.finish is None
            if text := sequence.take_pieces():
                yield text
        if sequence.error is not None:
            raise RowError(sequence.error)
    finally:
        loop.end([sequence])


def _running(
    request: Request, index: int, call: Call, tokenizer: Tokenizer | None, *, keep: bool
) -> RunningSequence:
    new_text = partial(_new_text, tokenizer, request)
    return RunningSequence(request, index, call, new_text, keep)


def _new_text(tokenizer: Tokenizer | None, request: Request) -> CompletionText | None:
    if tokenizer is None:
        return None
    sampling = request.sampling
    return CompletionText(tokenizer, sampling.stop, unmatched=sampling.min_tokens)


def _taken(call: Call, left: dict[int, RunningSequence]) -> list[RunningSequence]:
    """Those that have finished since the last time, taken from `left`."""
    finished = []
    while call.finished:
        sequence = left.pop(call.finished.popleft().index, None)
        if sequence is not None:
            finished.append(sequence)
    return finished


def scores(
    loop: SharedLoop, texts: Sequence[NDArray[np.int32]], watch: Watch = lambda _: None
) -> list[NDArray[np.float32]]:
    """Log-probabilities float32 [len - 1] of each text.

    Every call to the device is a turn of its own, so other threads' sequences go on meanwhile;
    texts of several threads are scored one thread after the other.

    Raises RowError for a text whose logits are not finite.
    """
    began, tokens = time.monotonic(), 0
    call = object()  # keeps these keys apart from those of other calls
    left: dict[Hashable, ScoreRequest] = {
        (call, index): ScoreRequest((call, index), text) for index, text in enumerate(texts)
    }
    found: dict[Hashable, NDArray[np.float32]] = {}
    order = list(left)
    loop.opened()
    with loop.scoring:
        try:
            while left:
                with loop.alone() as own:
                    if not own.scoring:  # the beginning, or others' step was broken off
                        own.submit_texts(left.values())
                    news = own.score_step()
                for scored in news:
                    if scored.key not in left:
                        continue  # of a call that was broken off
                    tokens += scored.tokens
                    if scored.logprobs is not None:
                        found[scored.key] = scored.logprobs
                        del left[scored.key]
                if news:
                    watch(Progress(len(found), len(order), tokens, time.monotonic() - began))
        finally:
            if left and loop.usable:
                with loop.alone() as own:
                    for key in left:
                        own.cancel(key)
    for index, key in enumerate(order):
        if without_numbers(found[key]):
            raise RowError(f"prompt {index}: {NO_NUMBERS}")
    return [found[key] for key in order]
