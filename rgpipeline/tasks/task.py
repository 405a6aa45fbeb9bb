"""What a task is: how a row becomes engine work, and what comes of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rgpipeline.engine.text_requests import TextRequest, TextResult
from rgpipeline.errors import RowError
from rgpipeline.io.parts import Column
from rgpipeline.read_texts import ReadText
from rgpipeline.records import OutputRow, Request, SampleKey, Snapshot
from rgpipeline.spec import Job
from rgpipeline.tasks.chat_turns import ChatTurns
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.wording import encodable

Notes = dict[str, Any]  # what the host needs beside a snapshot to resume a sequence, as JSON


@dataclass(frozen=True, slots=True)
class RowLabel:
    """How a row is named: in the output, and in messages about it."""

    shard: int
    row: int  # within the shard
    id: str
    place: str  # its file and row, for messages

    def key(self, sample: int = 0) -> SampleKey:
        """The key of one of its samples."""
        return SampleKey(self.shard, self.row, sample)

    def error(self, fault: str) -> str:
        """The row's `error`: its place, unless the fault names the file itself, and the fault."""
        named = self.place.rpartition(", row ")[0] in fault
        return encodable(fault if named else f"{self.place}: {fault}")

    def failed(self, fault: str, sample: int = 0, segment: int = 0) -> OutputRow:
        """The output row that ends the whole row with an error, from this sample and segment on."""
        error = self.error(fault)
        return OutputRow(self.row, self.id, sample, 1, segment, finish_reason="error", error=error)


@dataclass(frozen=True, slots=True)
class SequenceWork:
    """One sample of a row, to be generated in one of the engine's slots."""

    row: RowLabel
    sample: int
    request: Request  # by `key`
    notes: Notes | None = None  # beside the request's snapshot
    size: int = 0  # bytes of the state that the prompt follows, if it was loaded for this row
    chat: ChatTurns | None = None  # whose turn the request is, if its answers are wanted in it
    keep_state: bool = False  # the state at its end is wanted

    @property
    def key(self) -> SampleKey:
        return self.row.key(self.sample)

    @property
    def max_tokens(self) -> int | None:
        """Tokens that it brings at most; None when there is no limit."""
        return self.request.sampling.max_tokens

    @property
    def nbytes(self) -> int:
        """Host memory, approximately."""
        snapshot = self.request.snapshot
        saved = sum(array.nbytes for array in snapshot.arrays.values()) if snapshot else 0
        return self.request.tokens.nbytes + saved + self.size + 1024

    def next_turn(self, state: ReadText, chat: ChatTurns) -> "SequenceWork":
        """The next turn of a chat, after `state`; `chat` has the answers so far."""
        request = replace(
            self.request,
            tokens=state.continued(chat.later[0]).tail,
            start=state,
            keep_read=self.keep_state or len(chat.later) > 1,
        )
        return replace(self, request=request, chat=replace(chat, later=chat.later[1:]))

    def resumed(self, snapshot: Snapshot, notes: Notes) -> "SequenceWork":
        """The same, continued from a snapshot."""
        return replace(self, request=replace(self.request, snapshot=snapshot), notes=notes)


@dataclass(frozen=True, slots=True)
class TextWork:
    """A row whose text the engine reads once, in no slot."""

    row: RowLabel
    request: TextRequest  # by `key`
    output_row: Callable[[RowLabel, TextResult], OutputRow]  # from the whole result
    size: int = 0  # bytes of the state that the text follows, if it was loaded for this row

    @property
    def key(self) -> SampleKey:
        return self.row.key()

    @property
    def max_tokens(self) -> int:
        """Nothing is generated."""
        return 0

    @property
    def nbytes(self) -> int:
        """Host memory, approximately."""
        others = sum(other.nbytes for other in self.request.others)
        return self.request.tokens.nbytes + others + self.size


RowWork = SequenceWork | TextWork


class Task(ABC):
    """What a job does with each row. Stateless: it answers questions about jobs and their rows."""

    name: ClassVar[str]  # as in the job file
    done: ClassVar[str]  # what was done to the tokens that are counted: "generated"
    token_column: ClassVar[str]  # the output column that counts these tokens
    uses_slots: ClassVar[bool]  # its rows are sequences in slots, up to sampling.max_tokens long
    writes_texts: ClassVar[bool]  # it has `completion` and `finish_reason`, in segments
    sections: ClassVar[tuple[str, ...]] = ()  # of the job file, that no other task has
    sampling_keys: ClassVar[Collection[str]] = ()  # of `sampling`, that it uses

    def counted(self, value: Any) -> int:
        """The tokens that a value of `token_column` counts."""
        return value or 0

    @abstractmethod
    def columns(self, job: Job) -> list[Column]:
        """The columns that are added to the input's, in their order, without the prefix."""

    @abstractmethod
    def work(self, row: RowLabel, values: Mapping[str, Any], prompts: Prompts) -> list[RowWork]:
        """What the engine is to do for a row: for each sample one piece, all of one prompt.

        `values` are the row's, by column name. Raises RowError when nothing can be done.
        """


def error_text(error: Exception) -> str:
    """An exception that a row has caused, as text; with its type, where it isn't a RowError."""
    return str(error) if isinstance(error, RowError) else f"{type(error).__name__}: {error}"
