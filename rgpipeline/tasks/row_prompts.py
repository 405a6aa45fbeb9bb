"""Makes prompts of rows: their token ids, and their own sampling in place of the job's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

from pydantic import ValidationError

from rgpipeline.errors import RowError
from rgpipeline.io.used_values import as_text
from rgpipeline.jobfile import spec_faults
from rgpipeline.spec import Columns, Sampling
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.prompt_template import PromptTemplate
from rgpipeline.text.stops import with_named_tokens, with_turn_end
from rgpipeline.text.text_reader import TextReader
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.wording import kind_of

Row = Mapping[str, Any]

_MAX_ID = 2**31
_EXACT = 2**53  # above it, a float64 stands for several whole numbers
_NAMES = (str, int, Decimal, date, time, UUID, bytes)  # types that can name a row

# Parameters that may be null, such as `max_tokens` without a limit.
_NULLABLE = [
    name for name, info in Sampling.model_fields.items() if type(None) in get_args(info.annotation)
]


def row_sampling(base: Sampling, overrides: object, column: str = "sampling") -> Sampling:
    """`base` with a row's overrides: an object of sampling keys, or that as JSON text.

    A null, and a key whose value is null, override nothing: in a struct every row has all keys.
    In JSON text, null is a value of the parameters that have it: `max_tokens: null` is no limit.
    Raises RowError naming the key at fault.
    """
    given = _as_mapping(overrides, column)
    if not given:
        return base
    try:
        sampling = Sampling.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise RowError("; ".join(spec_faults(error, Sampling, column))) from error
    if base.logprobs == 1 and sampling.logprobs > 1:
        raise RowError(
            f"{column}.logprobs: {sampling.logprobs} does not fit into the job's column, which "
            f"holds the sampled token's alone; set sampling.logprobs of the job to 2 or more"
        )
    return sampling


def _as_mapping(overrides: object, column: str) -> Mapping[str, Any]:
    if overrides is None:
        return {}
    if isinstance(overrides, str):
        return _parse(overrides, column)
    if isinstance(overrides, Mapping):
        return _given(overrides)
    if isinstance(overrides, Sequence) and {tuple} == set(map(type, overrides)):
        return _given(dict(overrides))  # a map, as Arrow gives it
    raise RowError(
        f"{column!r} holds {kind_of(overrides)}; an object of sampling keys, or that as JSON "
        f"text, is needed"
    )


def _given(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys that have a value; likewise the token ids in `logit_bias`."""
    given = {key: value for key, value in overrides.items() if value is not None}
    bias = given.get("logit_bias")
    if isinstance(bias, Mapping):  # a struct has the token ids of all rows
        given["logit_bias"] = {token: add for token, add in bias.items() if add is not None}
    return given


def _parse(text: str, column: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise RowError(f"{column!r} holds text that is not JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise RowError(f"{column!r} holds JSON that is not an object of sampling keys")
    nulls = {name: None for name in _NULLABLE if value.get(name, 0) is None}
    return {**_given(value), **nulls}


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: list[int]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Prompts:
    """Makes prompts of rows: texts as `reader` reads them, token ids as they are.

    `reader` is by default one that reads texts as `tokenizer` does and puts BOS before them.
    `chat` is the template for rows with messages, or the reason why there is none.
    """

    columns: Columns
    sampling: Sampling
    tokenizer: Tokenizer | None  # None where neither prompts nor completions are texts
    chat: ChatTemplate | str = "no messages column is mapped"
    template: PromptTemplate | None = None
    requires_id: bool = True  # a null id is an error of its row
    reader: TextReader | None = None

    def __post_init__(self) -> None:
        if self.reader is None and self.tokenizer is not None:
            object.__setattr__(self, "reader", TextReader(self.tokenizer))

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
            reader = self._reader()
            tokens = reader.read_parts(self.template.parts(row))
            return Prompt(reader.require_tokens(tokens), sampling)
        columns = self.columns
        sources = [columns.prompt, columns.messages, columns.prompt_ids]
        given = [name for name in sources if name is not None and row[name] is not None]
        if not given:
            names = " and ".join(repr(name) for name in sources if name is not None)
            raise RowError(f"{names} is null")
        if given[0] == columns.messages:
            return self._chat(given[0], row, sampling)
        if given[0] == columns.prompt_ids:
            return Prompt(_token_ids(given[0], row[given[0]]), sampling)
        tokens = self.text_tokens(given[0], row)
        return Prompt(self._reader().require_tokens(tokens), sampling)

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
            return self._reader().read(text, bos=bos)
        except RowError as error:
            raise RowError(f"{name!r}: {error}") from error

    def _reader(self) -> TextReader:
        assert self.reader is not None, "`open_prompts` loads a tokenizer where there are texts"
        return self.reader

    def _chat(self, name: str, row: Row, sampling: Sampling) -> Prompt:
        messages = row[name]
        if not isinstance(messages, str | list):
            raise RowError(
                f"{name!r} holds {kind_of(messages)}; a list of messages, or that as JSON text, "
                f"is needed"
            )
        if isinstance(self.chat, str):
            raise RowError(self.chat)
        tools = None if self.columns.tools is None else row[self.columns.tools]
        tokens = self.chat.encode(messages, tools)
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
