"""One call's sequences, from their requests to what the caller gets."""

import time
from collections.abc import Iterator, Sequence
from functools import partial

from rgpipeline.errors import RowError
from rgpipeline.generator.progress import Progress, Watch
from rgpipeline.generator.sequence import Call, Completion, RunningSequence
from rgpipeline.generator.shared_loop import SharedLoop
from rgpipeline.records import Request
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
