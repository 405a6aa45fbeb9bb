"""One sample's tokens to output rows: text, ids, segments.

A segment is cut at an exact multiple of `segment_tokens`, and only when a token beyond it is known,
so that where segments end, and which is the last, depends on nothing but the tokens. A snapshot
comes whenever the engine can give one; its notes carry what has gathered since the last border.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rgpipeline.records import Emission, FinishReason, OutputRow, TokenLogprobs
from rgpipeline.text.completion import CompletionText, NoText, SequenceText
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.worker.row_maker import placed, told
from rgpipeline.worker.segment_logprobs import LogprobTail
from rgpipeline.worker.shared import Held, Notes, ToGenerate


@dataclass(frozen=True, slots=True)
class Shape:
    """How a job wants its completions."""

    segment_tokens: int
    token_ids: bool  # the completion_ids column
    dtype: str  # of the engine's states, for snapshots' notes
    token_texts: bool = False  # beside log-probabilities, for answers in OpenAI's format


class Assembly:
    """One sequence under way."""

    def __init__(
        self, held: Held, work: ToGenerate, tokenizer: Tokenizer | None, shape: Shape
    ) -> None:
        """Starts a sample, or goes on from the notes beside its snapshot.

        Without a tokenizer its completion is null.
        """
        notes = work.notes
        sampling = work.request.sampling
        self.held = held
        self.key = work.key
        self.nbytes = work.nbytes
        self.prompt_tokens = len(work.request.tokens)
        self.finished = False
        self.begun = notes is not None  # its prompt was counted
        self.saved_at: float | None = None  # when it was saved, or began
        self.saved = notes["segment"] * shape.segment_tokens + notes["tokens"] if notes else 0
        self._id, self._samples, self._place = work.id, work.samples, work.place
        self._shape = shape
        self._text: SequenceText = NoText()
        if notes is not None and notes["text"] is None:
            tokenizer = None  # it began without one, and half a text would look like a whole
        self._has_text = tokenizer is not None
        if tokenizer is not None:
            text = notes["text"] if notes else None
            self._text = CompletionText(
                tokenizer, sampling.stop, unmatched=sampling.min_tokens, state=text
            )
        self._segment: int = notes["segment"] if notes else 0
        self._tokens: int = notes["tokens"] if notes else 0  # since the last border
        self._pieces: list[str] = [notes["completion"]] if notes else []
        self._ids: list[int] = notes["ids"] if notes else []
        token_text = tokenizer.token_text if tokenizer and shape.token_texts else None
        logprobs = notes["logprobs"] if notes else None
        self._logprobs = LogprobTail(sampling.logprobs, logprobs, token_text)

    @property
    def generated(self) -> int:
        """Tokens of the sequence so far, those of the engine's snapshot included."""
        return self._segment * self._shape.segment_tokens + self._tokens

    def take(self, emission: Emission) -> list[OutputRow]:
        """The rows that an emission completes: segments, and at the end the last one.

        `finished` is set with the last; then the engine need not go on with the sequence, even
        where the emission doesn't say that it has ended (a stop string). Whatever goes wrong in
        making its text fails this sample only.
        """
        if emission.error is not None:
            return [self._fail(emission.error)]
        try:
            return self._taken(emission)
        except MemoryError:
            raise
        except Exception as error:
            return [self._fail(told(error))]

    def _taken(self, emission: Emission) -> list[OutputRow]:
        rows, at = [], 0
        ids = emission.token_ids
        while at < len(ids) and not self.finished:
            if self._tokens == self._shape.segment_tokens:
                rows.append(self._cut())
            size = min(len(ids) - at, self._shape.segment_tokens - self._tokens)
            if self._add(ids[at : at + size], emission.logprobs, at):
                rows.append(self._end("stop"))
            at += size
        if emission.finish is not None and not self.finished:
            rest = self._text.flush()
            self._pieces.append(rest.emit)
            rows.append(self._end("stop" if rest.hit is not None else emission.finish))
        return rows

    def notes(self) -> Notes:
        """What goes beside a snapshot that was taken after the emission taken last."""
        return {
            "segment": self._segment,
            "tokens": self._tokens,
            "completion": "".join(self._pieces),
            "ids": list(self._ids),
            "logprobs": self._logprobs.state(),
            "text": self._text.state(),
            "dtype": self._shape.dtype,
        }

    def _add(self, ids: NDArray[np.int32], logprobs: TokenLogprobs | None, start: int) -> bool:
        """Takes tokens that all fit into this segment; True if a stop string ended the text."""
        pushed = self._text.push(ids)
        self._pieces.append(pushed.emit)
        self._tokens += pushed.tokens
        if self._shape.token_ids:
            self._ids.extend(ids[: pushed.tokens].tolist())
        if logprobs is not None:
            tokens = ids[: pushed.tokens]
            self._logprobs.add(logprobs, tokens, start, start + pushed.tokens)
        return pushed.hit is not None

    def _cut(self) -> OutputRow:
        row = self._row(None, None)
        self._segment += 1
        self._tokens, self._pieces, self._ids = 0, [], []
        self._logprobs.clear()
        return row

    def _fail(self, fault: str) -> OutputRow:
        return self._end("error", placed(self._place, fault))

    def _end(self, finish: FinishReason, error: str | None = None) -> OutputRow:
        self.finished = True
        return self._row(finish, error)

    def _row(self, finish: FinishReason | None, error: str | None) -> OutputRow:
        return OutputRow(
            row=self.key.row,
            id=self._id,
            sample=self.key.sample,
            samples=self._samples,
            segment=self._segment,
            completion="".join(self._pieces) if self._has_text and not error else None,
            finish_reason=finish,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=0 if error else self._tokens,
            error=error,
            completion_ids=list(self._ids) if self._shape.token_ids and not error else None,
            logprobs=None if error else self._logprobs.value(first=self._segment == 0),
        )


def ticker(rows: Sequence[OutputRow]) -> str | None:
    """The text of the newest finished completion, shortened for a progress display."""
    texts = [row.completion for row in rows if row.final and row.completion]
    return texts[-1][:300] if texts else None
