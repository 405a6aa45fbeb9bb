"""One sample's tokens to output rows: text, ids, segments.

A segment ends at an exact multiple of `segment_tokens`, and only when a token beyond it is known.
So where segments end, and which is the last, depends on the tokens alone. The engine may give a
snapshot at any token; its notes carry what has gathered since the last segment ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import WorkerError
from rgpipeline.io.stored_states import state_name
from rgpipeline.read_texts import ReadText
from rgpipeline.records import (
    Emission,
    FinishReason,
    OutputRow,
    SampleKey,
    Snapshot,
    TokenLogprobs,
)
from rgpipeline.tasks.chat_turns import ChatTurns
from rgpipeline.tasks.generate_task import sequence_text
from rgpipeline.tasks.task import Notes, SequenceWork, TextWork, error_text
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.worker.end_state import EndState
from rgpipeline.worker.segment_logprobs import SegmentLogprobs
from rgpipeline.worker.shared import ActiveAssignment

WHOLE = 1 << 62  # tokens of a segment that is never full


@dataclass(frozen=True, slots=True)
class CompletionFormat:
    """How a job wants its completions."""

    segment_tokens: int
    token_ids: bool  # the completion_ids column
    dtype: str  # of the engine's states, for snapshots' notes
    token_texts: bool = False  # beside log-probabilities, for answers in OpenAI's format
    state_url: Callable[[str], str] = str  # the address of a stored state, by its file's name


@dataclass(frozen=True, slots=True)
class RunningText:
    """One text that the engine reads."""

    active: ActiveAssignment
    work: TextWork

    @property
    def key(self) -> SampleKey:
        return self.work.key

    @property
    def nbytes(self) -> int:
        return self.work.nbytes


class RunningSample:
    """One sample that the engine generates."""

    def __init__(
        self,
        active: ActiveAssignment,
        work: SequenceWork,
        tokenizer: Tokenizer | None,
        format: CompletionFormat,
    ) -> None:
        """Starts a sample, or resumes one from the notes beside its snapshot.

        Without a tokenizer its completion is null. A chat is published whole, in one segment.
        """
        if work.chat is not None:
            format = replace(format, segment_tokens=WHOLE)
        notes = work.notes
        sampling = work.request.sampling
        self.active = active
        self.key = work.key
        self.nbytes = work.nbytes
        self.prompt_tokens = work.request.prompt_tokens
        self.finished = False
        self.state: ReadText | None = None  # at its end, if that is wanted; its last row names it
        self.begun = notes is not None  # its prompt has been counted
        self.saved_at: float | None = None  # the time of its last snapshot, or of its start
        self.saved = notes["segment"] * format.segment_tokens + notes["tokens"] if notes else 0
        self._row, self._samples = work.row, sampling.n
        self._work, self._chat = work, work.chat
        self._format = format
        if notes is not None and notes["text"] is None:
            tokenizer = None  # it began without one; half a text would look like a whole one
        self._has_text = tokenizer is not None
        self._text = sequence_text(tokenizer, sampling, notes["text"] if notes else None)
        self._segment: int = notes["segment"] if notes else 0
        self._tokens: int = notes["tokens"] if notes else 0  # in this segment
        self._pieces: list[str] = [notes["completion"]] if notes else []
        self._ids: list[int] = notes["ids"] if notes else []
        token_text = tokenizer.token_text if tokenizer and format.token_texts else None
        logprobs = notes["logprobs"] if notes else None
        self._logprobs = SegmentLogprobs(sampling.logprobs, logprobs, token_text)
        self._end_state = EndState(work.request)

    @property
    def generated(self) -> int:
        """Tokens of the sequence so far, those of the engine's snapshot included."""
        return self._segment * self._format.segment_tokens + self._tokens

    @property
    def may_be_saved(self) -> bool:
        """Not where a chat's earlier answers are not published yet."""
        return self._chat is None

    def following(self) -> SequenceWork | None:
        """The chat's next turn, once this one is answered; None at the end, or after an error."""
        state, chat = self.state, self._chat
        if state is None or chat is None or not chat.later:
            return None
        return self._work.next_turn(state, self._answered(chat))

    def _answered(self, chat: ChatTurns) -> ChatTurns:
        return chat.answered("".join(self._pieces), self.prompt_tokens, self._tokens)

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """The engine's snapshot after the last emission, with what the end's state needs."""
        if self.generated != snapshot.generated:
            raise WorkerError(
                f"{self.key}: the engine's snapshot has {snapshot.generated} tokens, "
                f"{self.generated} were emitted"
            )
        return replace(snapshot, arrays={**snapshot.arrays, **self._end_state.arrays()})

    def take(self, emission: Emission) -> list[OutputRow]:
        """The rows that an emission completes: segments, the last one at the end.

        The last one sets `finished`. A stop string may end the sample before the engine does; the
        caller then cancels the sequence. Any exception from making the text fails this sample only.
        """
        if emission.error is not None:
            return [self._fail(emission.error)]
        try:
            return self._taken(emission)
        except MemoryError:
            raise
        except Exception as error:
            return [self._fail(error_text(error))]

    def _taken(self, emission: Emission) -> list[OutputRow]:
        rows, at = [], 0
        self._end_state.begin(emission.read)
        ids = emission.token_ids
        while at < len(ids) and not self.finished:
            if self._tokens == self._format.segment_tokens:
                rows.append(self._cut())
            size = min(len(ids) - at, self._format.segment_tokens - self._tokens)
            if self._add(ids[at : at + size], emission.logprobs, at):
                rows.append(self._end("stop"))
            at += size
        if emission.finish is not None and not self.finished:
            rest = self._text.flush()
            self._pieces.append(rest.emit)
            rows.append(self._end("stop" if rest.hit is not None else emission.finish))
        return rows

    def notes(self) -> Notes:
        """What goes beside a snapshot that follows the last emission taken."""
        return {
            "segment": self._segment,
            "tokens": self._tokens,
            "completion": "".join(self._pieces),
            "ids": list(self._ids),
            "logprobs": self._logprobs.state(),
            "text": self._text.state(),
            "dtype": self._format.dtype,
        }

    def _add(self, ids: NDArray[np.int32], logprobs: TokenLogprobs | None, start: int) -> bool:
        """Takes tokens that all fit into this segment; True if a stop string ended the text."""
        pushed = self._text.push(ids)
        self._pieces.append(pushed.emit)
        self._tokens += pushed.tokens
        self._end_state.add(ids[: pushed.tokens])
        if self._format.token_ids:
            self._ids.extend(ids[: pushed.tokens].tolist())
        if logprobs is not None:
            tokens = ids[: pushed.tokens]
            self._logprobs.add(logprobs, tokens, start, start + pushed.tokens)
        return pushed.hit is not None

    def _cut(self) -> OutputRow:
        row = self._output_row(None, None)
        self._segment += 1
        self._tokens, self._pieces, self._ids = 0, [], []
        self._logprobs.clear()
        return row

    def _fail(self, fault: str) -> OutputRow:
        self._end_state.drop()
        return self._end("error", self._row.error(fault))

    def _end(self, finish: FinishReason, error: str | None = None) -> OutputRow:
        self.finished = True
        self.state = self._end_state.state
        return self._output_row(finish, error)

    def _output_row(self, finish: FinishReason | None, error: str | None) -> OutputRow:
        row = OutputRow(
            row=self.key.row,
            id=self._row.id,
            sample=self.key.sample,
            samples=self._samples,
            segment=self._segment,
            completion="".join(self._pieces) if self._has_text and not error else None,
            finish_reason=finish,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=0 if error else self._tokens,
            error=error,
            completion_ids=list(self._ids) if self._format.token_ids and not error else None,
            logprobs=None if error else self._logprobs.value(first=self._segment == 0),
            state=self._format.state_url(state_name(self.state)) if self.state else None,
            final=finish is not None,
        )
        if self._chat is None or error:
            return row
        chat = self._answered(self._chat)
        return replace(
            row,
            messages=chat.messages,
            prompt_tokens=chat.prompt_tokens,
            completion_tokens=chat.completion_tokens,
        )


def latest_completion(rows: Sequence[OutputRow]) -> str | None:
    """The text of the last finished completion, shortened for a progress display."""
    texts = [row.completion for row in rows if row.final and row.completion]
    return texts[-1][:300] if texts else None
