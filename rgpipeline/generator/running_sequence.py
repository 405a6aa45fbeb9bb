"""One sequence that the loop generates, and its completion."""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import RowError
from rgpipeline.generator.state import State
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Emission, FinishReason, Request, TokenLogprobs
from rgpipeline.tasks.generate_task import sequence_text
from rgpipeline.text.completion import SequenceText
from rgpipeline.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Completion:
    """The continuation of a prompt.

    `text` is None when the model has no tokenizer. `token_ids` are the sampled tokens without the
    end-of-sequence or stop token; if a stop string ended the text, up to the token that completed
    it. `logprobs` is None unless the sampling asks for them. `prompt_logprobs`, float32 [tokens of
    the prompt - 1], is None unless the call asks for it: the log-probability of each token of the
    prompt given those before it.
    """

    text: str | None
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: NDArray[np.float32] | None = None
    state: State | None = None

    def with_prompt(self, logprobs: NDArray[np.float32] | None) -> "Completion":
        """A copy with the prompt's log-probabilities."""
        return self if logprobs is None else replace(self, prompt_logprobs=logprobs)


@dataclass(slots=True)
class Call:
    """The progress of the sequences of one call."""

    finished: "deque[RunningSequence]" = field(default_factory=deque)
    tokens: int = 0  # generated


@dataclass(slots=True, eq=False)
class RunningSequence:
    """Collects a sequence's tokens and text until the caller takes them.

    `take` and `restart` are called by the thread that steps the loop, all other methods by the
    thread of the call, possibly at the same time.
    """

    request: Request
    index: int  # within its call
    call: Call
    tokenizer: Tokenizer | None  # without one there is no text
    keep: bool  # keep tokens for a Completion; a stream doesn't, so its memory stays constant
    finish: FinishReason | None = None  # set last: everything else is complete then
    error: str | None = None
    _text: SequenceText = field(init=False)
    _pieces: deque[tuple[int, str]] = field(default_factory=deque)  # (first character, text)
    _emitted: int = 0  # characters since the last start
    _taken: int = 0  # characters that the caller has
    _tokens: int = 0
    _token_ids: list[int] = field(default_factory=list)
    _logprobs: list[TokenLogprobs] = field(default_factory=list)
    _read: ReadText | None = None  # the prompt, if the request asks for it

    def __post_init__(self) -> None:
        self._text = self._new_text()

    def _new_text(self) -> SequenceText:
        return sequence_text(self.tokenizer, self.request.sampling)

    def take(self, emission: Emission) -> bool:
        """Adds an emission; True when a stop string ended the text before the engine did."""
        if self.finish is not None:
            return False
        finish, tokens = emission.finish, len(emission.token_ids)
        self._read = emission.read or self._read
        if emission.error is not None:
            self.error = emission.error
        else:
            pushed = self._text.push(emission.token_ids)
            tokens, hit = pushed.tokens, pushed.hit
            self._put(pushed.emit)
            if hit is None and finish is not None:
                rest = self._text.flush()
                self._put(rest.emit)
                hit = rest.hit
            finish = finish if hit is None else "stop"
        self._tokens += tokens
        self.call.tokens += tokens
        if self.keep:
            self._token_ids.extend(emission.token_ids[:tokens].tolist())
            if emission.logprobs is not None:
                self._logprobs.append(_first(emission.logprobs, tokens))
        if finish is not None:
            self.finish = finish
            self.notify()
        return finish != emission.finish

    def notify(self) -> None:
        """Tells the call that this sequence is finished. May be called twice."""
        self.call.finished.append(self)

    def restart(self) -> None:
        """Starts the sequence again. Text that the caller has is not given again."""
        self.call.tokens -= self._tokens
        self._text, self._emitted, self._tokens = self._new_text(), 0, 0
        self._token_ids, self._logprobs = [], []

    def take_pieces(self) -> str:
        """The text since the last call."""
        texts = []
        while self._pieces:
            start, text = self._pieces.popleft()
            texts.append(text[self._taken - start :])
            self._taken += len(texts[-1])
        return "".join(texts)

    def completion(self) -> Completion:
        """The finished sequence. Raises RowError if it failed."""
        if self.error is not None or self.finish is None:
            raise RowError(self.error or "the sequence never finished")
        text = None if self.tokenizer is None else self.take_pieces()
        logprobs = _joined(self._logprobs) if self._logprobs else None
        ids = self._token_ids
        state = State(self._read.continued(np.asarray(ids, np.int32))) if self._read else None
        return Completion(text, ids, self.finish, logprobs, state=state)

    def _put(self, text: str) -> None:
        if text:
            self._pieces.append((self._emitted, text))
            self._emitted += len(text)


def _first(logprobs: TokenLogprobs, tokens: int) -> TokenLogprobs:
    return TokenLogprobs(
        logprobs.sampled[:tokens], logprobs.top_ids[:tokens], logprobs.top[:tokens]
    )


def _joined(pieces: list[TokenLogprobs]) -> TokenLogprobs:
    fields = zip(*((p.sampled, p.top_ids, p.top) for p in pieces), strict=True)
    return TokenLogprobs(*map(np.concatenate, fields))
