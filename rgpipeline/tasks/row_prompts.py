"""Makes prompts of rows: their token ids, and their own sampling in place of the job's."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import RowError
from rgpipeline.io.used_values import as_text
from rgpipeline.read_texts import ReadText
from rgpipeline.spec import Columns, Sampling, StructuredOutputs
from rgpipeline.tasks.chat_turns import ChatTurns, open_turns
from rgpipeline.tasks.row_sampling import row_sampling
from rgpipeline.tasks.state_loader import StateLoader
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.grammar_check import GrammarCheck
from rgpipeline.text.prompt_template import PromptTemplate
from rgpipeline.text.stops import with_named_tokens, with_turn_end
from rgpipeline.text.text_reader import TextReader
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.text.vocabulary_size import size_note
from rgpipeline.wording import kind_of

Row = Mapping[str, Any]

_MAX_ID = 2**31
_EXACT = 2**53  # above it, a float64 stands for several whole numbers
_NAMES = (str, int, Decimal, date, time, UUID, bytes)  # types that can name a row


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: list[int]  # without those of `start`
    sampling: Sampling
    start: ReadText | None = None  # what it follows
    start_bytes: int = 0  # of `start`, if it was loaded for this prompt
    in_turn: bool = False  # it is a chat, and ends where the model's turn begins
    chat: ChatTurns | None = None  # the chat whose first turn it is, if answers are wanted in it

    def to_read(self) -> NDArray[np.int32]:
        """The tokens to read: those that `start` hasn't read, then its own."""
        tokens = np.asarray(self.tokens, np.int32)
        return tokens if self.start is None else self.start.continued(tokens).tail


@dataclass(frozen=True, slots=True)
class Prompts:
    """Makes prompts of rows: texts as `reader` reads them, token ids as they are.

    `reader` is by default one that reads texts as `tokenizer` does and puts BOS before them.
    `chat` is the template for rows with messages, or the reason why there is none. `check` looks at
    rows' own grammars; the job's has been looked at.
    """

    columns: Columns
    sampling: Sampling
    tokenizer: Tokenizer | None  # None where neither prompts nor completions are texts
    chat: ChatTemplate | str = "no messages column is mapped"
    template: PromptTemplate | None = None
    requires_id: bool = True  # a null id is an error of its row
    reader: TextReader | None = None
    states: StateLoader = field(default_factory=StateLoader)
    check: GrammarCheck | None = None
    keep_states: bool = False  # the states at the samples' ends are wanted
    keep_messages: bool = False  # chats with their answers are wanted

    def __post_init__(self) -> None:
        if self.reader is None and self.tokenizer is not None:
            object.__setattr__(self, "reader", TextReader(self.tokenizer))

    def require_known_ids(self, vocab_size: int) -> None:
        """Raises WeightsError if the tokenizer that reads texts knows more tokens than the model.

        A larger tokenizer is fine where it only writes texts.
        """
        if self.tokenizer is not None and reads_texts(self.columns, self.template):
            self.tokenizer.require_within(vocab_size)

    def model_warnings(self, vocab_size: int) -> tuple[str, ...]:
        """What to know of the tokenizer beside a model of `vocab_size` tokens, a line for each."""
        if self.tokenizer is None:
            return ()
        notes = self.tokenizer.note, size_note(self.tokenizer, vocab_size)
        return tuple(note for note in notes if note)

    def make(self, row: Row) -> Prompt:
        """The prompt of a row, given by column. Raises RowError naming the column at fault."""
        name = self.columns.state
        if name is None or row[name] is None:
            return self._prompt(row, self._sampling(row), None)
        if not isinstance(row[name], str):
            raise RowError(f"{name!r} holds {kind_of(row[name])}; a state's address is needed")
        start, size = self.states.load(row[name])
        prompt = self._prompt(row, self._sampling(row), start)
        return replace(prompt, start=start, start_bytes=size)

    def _prompt(self, row: Row, sampling: Sampling, start: ReadText | None) -> Prompt:
        """What the row itself says, after `start`."""
        new, columns = start is None, self.columns
        if self.template is not None:
            reader = self._reader()
            tokens = reader.read_parts(self.template.parts(row), bos=new)
            return Prompt(reader.require_tokens(tokens) if new else tokens, sampling)
        sources = [columns.prompt, columns.messages, columns.prompt_ids]
        given = [name for name in sources if name is not None and row[name] is not None]
        if not given:
            names = " and ".join(repr(name) for name in sources if name is not None)
            raise RowError(f"{names} is null")
        if given[0] == columns.messages:
            return self._chat(given[0], row, sampling, start)
        if given[0] == columns.prompt_ids:
            return Prompt(_token_ids(given[0], row[given[0]], may_be_empty=not new), sampling)
        tokens = self.text_tokens(given[0], row, bos=new)
        return Prompt(self._reader().require_tokens(tokens) if new else tokens, sampling)

    def row_id(self, row: Row) -> str | None:
        """The row's own id; None when no column is mapped to ids.

        Raises RowError if the value can't name a row, or is null in a column that the job itself
        has mapped.
        """
        name = self.columns.id
        if name is None:
            return None
        value = row[name]
        if value is None and not self.requires_id:
            return None
        if value is None:
            raise RowError(f"{name!r}, which names the rows, is null")
        return _row_name(name, value)

    def _sampling(self, row: Row) -> Sampling:
        name, sampling = self.columns.sampling, self.sampling
        if name is not None:
            sampling = row_sampling(self.sampling, row[name], name)
            if sampling.stop and self.tokenizer is None:
                raise RowError(f"{name}.stop: the model has no tokenizer; use stop_ids")
            if sampling.structured_outputs not in (None, self.sampling.structured_outputs):
                self._check_grammar(sampling.structured_outputs, name)
        return sampling if self.tokenizer is None else with_named_tokens(sampling, self.tokenizer)

    def _check_grammar(self, structured: StructuredOutputs, name: str) -> None:
        if self.tokenizer is None:
            raise RowError(f"{name}.structured_outputs: the model has no tokenizer")
        if self.check is not None and (refused := self.check.refusal(structured)) is not None:
            raise RowError(f"{name}.{refused}")

    def text_tokens(self, name: str, row: Row, *, bos: bool = True) -> list[int]:
        """The tokens of a column's text. Raises RowError naming the column."""
        text = row[name]
        if not isinstance(text, str):
            raise RowError(f"{name!r} holds {kind_of(text)}; text is needed")
        try:
            return self._reader().read(text, bos=bos)
        except RowError as error:
            raise RowError(f"{name!r}: {error}") from error

    def _reader(self) -> TextReader:
        assert self.reader is not None, "`open_prompts` loads a tokenizer where there are texts"
        return self.reader

    def _chat(self, name: str, row: Row, sampling: Sampling, start: ReadText | None) -> Prompt:
        messages = row[name]
        if not isinstance(messages, str | list):
            raise RowError(
                f"{name!r} holds {kind_of(messages)}; a list of messages, or that as JSON text, "
                f"is needed"
            )
        if isinstance(self.chat, str):
            raise RowError(self.chat)
        tools = None if self.columns.tools is None else row[self.columns.tools]
        first: object = messages
        chat = None
        if self.keep_messages:
            first, chat = open_turns(self.chat, messages, tools)
        if start is None:
            tokens = self.chat.encode(first, tools)
        else:
            tokens = self.chat.encode_after(first, tools, in_turn=start.in_turn)
        sampling = with_turn_end(sampling, self.chat.stop_ids)
        return Prompt(tokens, sampling, in_turn=True, chat=chat)


def reads_texts(columns: Columns, template: object) -> bool:
    """Whether a tokenizer is needed to read the input; token ids alone need none."""
    return bool(columns.prompt or columns.messages or columns.completion or template)


def _row_name(name: str, value: object) -> str:
    """An id as text. A whole number becomes its digits, even if its file holds it as a float."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    if isinstance(value, _NAMES) and not isinstance(value, bool):
        return as_text(value)
    found = f"the number {value}" if isinstance(value, float) else kind_of(value)
    raise RowError(
        f"{name!r}, which names the rows, holds {found}; text or a whole number is needed"
    )


def _token_ids(name: str, ids: object, *, may_be_empty: bool) -> list[int]:
    if not isinstance(ids, list):
        raise RowError(f"{name!r} holds {kind_of(ids)}; a list of token ids is needed")
    if not ids and not may_be_empty:
        raise RowError(f"{name!r} is an empty list; give at least one token id, such as BOS")
    for index, token in enumerate(ids):
        if type(token) is not int or not 0 <= token < _MAX_ID:
            raise RowError(f"{name!r}[{index}]: {token!r} is not a token id")
    return ids
