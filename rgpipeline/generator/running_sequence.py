"""One sequence under way, and what comes of it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import RowError
from rgpipeline.records import Emission, FinishReason, Request, TokenLogprobs
from rgpipeline.text.completion import CompletionText


@dataclass(frozen=True, slots=True)
class Completion:
    """What a prompt was continued with.

    `text` is None when the model has no tokenizer. `token_ids` are all that were sampled, without
    the end-of-sequence or stop token; where a stop string ended the text, up to the token that
    completed it. `logprobs` is None unless the sampling asked for them. `prompt_logprobs`, float32
    [tokens of the prompt - 1], is None unless the call asked for it: log-probability of each token
    of the prompt given those before it.
    """

    text: str | None
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: NDArray[np.float32] | None = None

    def with_prompt(self, logprobs: NDArray[np.float32] | None) -> "Completion":
        """The same, with its prompt's log-probabilities."""
        return self if logprobs is None else replace(self, prompt_logprobs=logprobs)


@dataclass(slots=True)
class Call:
    """Sequences that were asked for together, and how far they are."""

    finished: "deque[RunningSequence]" = field(default_factory=deque)
    tokens: int = 0  # generated


@dataclass(slots=True, eq=False)
class RunningSequence:
    """What came of a sequence, and was not handed out yet.

    `take` and `restart` are for the thread that steps the loop, all else for the one that asked;
    the two may be at it at once.
    """

    request: Request
    index: int  # within its call
    call: Call
    new_text: Callable[[], CompletionText | None]  # None without a tokenizer
    keep: bool  # tokens, for a Completion; a stream's memory stays constant
    finish: FinishReason | None = None  # set last: all else is complete then
    error: str | None = None
    _text: CompletionText | None = field(init=False)
    _pieces: deque[tuple[int, str]] = field(default_factory=deque)  # with the place of each
    _emitted: int = 0  # characters, since the last start
    _taken: int = 0  # characters
    _tokens: int = 0
    _token_ids: list[int] = field(default_factory=list)
    _logprobs: list[TokenLogprobs] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._text = self.new_text()

    def take(self, emission: Emission) -> bool:
        """Adds an emission; True when a stop string has ended the text before the engine did."""
        if self.finish is not None:
            return False
        finish, tokens = emission.finish, len(emission.token_ids)
        if emission.error is not None:
            self.error = emission.error
        elif self._text is not None:
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
            self.tell()
        return finish != emission.finish

    def tell(self) -> None:
        """Tells the call that this one is finished; again, it is harmless."""
        self.call.finished.append(self)

    def restart(self) -> None:
        """The sequence begins anew. Text that was handed out is not handed out again."""
        self.call.tokens -= self._tokens
        self._text, self._emitted, self._tokens = self.new_text(), 0, 0
        self._token_ids, self._logprobs = [], []

    def take_pieces(self) -> str:
        """The text that came since the last call."""
        parts = []
        while self._pieces:
            start, text = self._pieces.popleft()
            parts.append(text[self._taken - start :])
            self._taken += len(parts[-1])
        return "".join(parts)

    def completion(self) -> Completion:
        """All of a finished sequence. Raises RowError if it failed."""
        if self.error is not None or self.finish is None:
            raise RowError(self.error or "the sequence never finished")
        text = None if self._text is None else self.take_pieces()
        logprobs = _joined(self._logprobs) if self._logprobs else None
        return Completion(text, self._token_ids, self.finish, logprobs)

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
