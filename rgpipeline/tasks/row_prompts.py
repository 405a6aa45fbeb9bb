"""Makes prompts of rows: their token ids, and their sampling."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from rgpipeline.errors import RowError
from rgpipeline.io.used_values import as_text
from rgpipeline.spec import Columns, Sampling
from rgpipeline.tasks.row_sampling import row_sampling
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.prompt_template import PromptTemplate
from rgpipeline.text.stops import with_named_tokens, with_turn_end
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.wording import kind_of

Row = Mapping[str, Any]

_MAX_ID = 2**31
_EXACT = 2**53  # above it, a float64 stands for several whole numbers
_NAMES = (str, int, Decimal, date, time, UUID, bytes)  # types that can name a row


@dataclass(frozen=True, slots=True)
class Prompt:
    """A row's prompt."""

    tokens: list[int]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Prompts:
    """Makes prompts of rows. BOS precedes texts; token ids are used as they are.

    `chat` is the template for rows with messages, or the reason why there is none.
    """

    columns: Columns
    sampling: Sampling
    tokenizer: Tokenizer | None  # None where neither prompts nor completions are texts
    chat: ChatTemplate | str = "no messages column is mapped"
    template: PromptTemplate | None = None
    requires_id: bool = True  # a null id is an error of its row

    def require_known_ids(self, vocab_size: int) -> None:
        """Raises WeightsError if the tokenizer that reads texts knows more tokens than the model.

        A larger tokenizer is fine where it only writes texts.
        """
        if self.tokenizer is not None and reads_texts(self.columns, self.template):
            self.tokenizer.require_within(vocab_size)

    def make(self, row: Row) -> Prompt:
        """The prompt of a row, given by column. Raises RowError naming the column at fault."""
        sampling = self._sampling(row)
        if self.template is not None:
            return Prompt(self._encode(self.template.fill(row)), sampling)
        columns = self.columns
        sources = [columns.prompt, columns.messages, columns.prompt_ids]
        given = [name for name in sources if name is not None and row[name] is not None]
        if not given:
            names = " and ".join(repr(name) for name in sources if name is not None)
            raise RowError(f"{names} is null")
        if given[0] == columns.messages:
            return self._chat(given[0], row[given[0]], sampling)
        if given[0] == columns.prompt_ids:
            return Prompt(_token_ids(given[0], row[given[0]]), sampling)
        return Prompt(self.text_tokens(given[0], row), sampling)

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
        return sampling if self.tokenizer is None else with_named_tokens(sampling, self.tokenizer)

    def text_tokens(self, name: str, row: Row, *, bos: bool = True) -> list[int]:
        """The tokens of a column's text. Raises RowError naming the column."""
        text = row[name]
        if not isinstance(text, str):
            raise RowError(f"{name!r} holds {kind_of(text)}; text is needed")
        try:
            return self._encode(text, bos=bos)
        except RowError as error:
            raise RowError(f"{name!r}: {error}") from error

    def _encode(self, text: str, *, bos: bool = True) -> list[int]:
        assert self.tokenizer is not None, "`open_prompts` loads one where there are texts"
        return self.tokenizer.encode(text, bos=bos)

    def _chat(self, name: str, messages: object, sampling: Sampling) -> Prompt:
        if not isinstance(messages, str | list):
            raise RowError(
                f"{name!r} holds {kind_of(messages)}; a list of messages, or that as JSON text, "
                f"is needed"
            )
        if isinstance(self.chat, str):
            raise RowError(self.chat)
        tokens = self.chat.encode(messages)
        return Prompt(tokens, with_turn_end(sampling, self.chat.stop_ids))


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


def _token_ids(name: str, ids: object) -> list[int]:
    if not isinstance(ids, list):
        raise RowError(f"{name!r} holds {kind_of(ids)}; a list of token ids is needed")
    if not ids:
        raise RowError(f"{name!r} is an empty list; give at least one token id, such as BOS")
    for index, token in enumerate(ids):
        if type(token) is not int or not 0 <= token < _MAX_ID:
            raise RowError(f"{name!r}[{index}]: {token!r} is not a token id")
    return ids
