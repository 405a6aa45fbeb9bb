"""One sequence under way, and what comes of it."""

from dataclasses import dataclass, field

import numpy as np

from rgpipeline.errors import RowError
from rgpipeline.records import Emission, FinishReason, TokenLogprobs
from rgpipeline.text.completion import CompletionText


@dataclass(frozen=True, slots=True)
class Completion:
    """What a prompt was continued with.

    `text` is None when the model has no tokenizer. `token_ids` are all that were sampled, without
    the end-of-sequence or stop token; where a stop string ended the text, up to the token that
    completed it. `logprobs` is None unless the sampling asked for them.
    """

    text: str | None
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: TokenLogprobs | None = None


@dataclass(slots=True)
class Underway:
    """What came of a sequence, and was not handed out yet."""

    text: CompletionText | None  # None without a tokenizer
    keep: bool  # tokens, for a Completion; a stream's memory stays constant
    finish: FinishReason | None = None
    error: str | None = None
    _pieces: list[str] = field(default_factory=list)
    _token_ids: list[int] = field(default_factory=list)
    _logprobs: list[TokenLogprobs] = field(default_factory=list)

    def take(self, emission: Emission) -> None:
        """Adds an emission. `finish` may be set by it where the emission's own isn't: a stop
        string has ended the text, and the engine need not go on.
        """
        self.error, self.finish = emission.error, emission.finish
        if emission.error is not None:
            return
        tokens = len(emission.token_ids) if self.text is None else self._take_text(emission)
        if self.keep:
            self._token_ids.extend(emission.token_ids[:tokens].tolist())
            if emission.logprobs is not None:
                self._logprobs.append(_first(emission.logprobs, tokens))

    def take_pieces(self) -> str:
        """The text that came since the last call."""
        text, self._pieces = "".join(self._pieces), []
        return text

    def completion(self) -> Completion:
        """All of a finished sequence. Raises RowError if it failed."""
        if self.error is not None or self.finish is None:
            raise RowError(self.error or "the sequence never finished")
        text = None if self.text is None else "".join(self._pieces)
        logprobs = _joined(self._logprobs) if self._logprobs else None
        return Completion(text, self._token_ids, self.finish, logprobs)

    def _take_text(self, emission: Emission) -> int:
        """Takes the text of an emission; returns how many of its tokens count."""
        assert self.text is not None
        pushed = self.text.push(emission.token_ids)
        self._pieces.append(pushed.emit)
        hit = pushed.hit
        if hit is None and emission.finish is not None:
            rest = self.text.flush()
            self._pieces.append(rest.emit)
            hit = rest.hit
        if hit is not None:
            self.finish = "stop"
        return pushed.tokens


def _first(logprobs: TokenLogprobs, tokens: int) -> TokenLogprobs:
    return TokenLogprobs(
        logprobs.sampled[:tokens], logprobs.top_ids[:tokens], logprobs.top[:tokens]
    )


def _joined(pieces: list[TokenLogprobs]) -> TokenLogprobs:
    fields = zip(*((p.sampled, p.top_ids, p.top) for p in pieces), strict=True)
    return TokenLogprobs(*map(np.concatenate, fields))
