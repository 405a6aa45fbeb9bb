"""Checks what callers pass: prompts, ids, sampling and states, as lists or as columns of NumPy,
Arrow, pandas and polars.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import RowError, UserError
from rgpipeline.generator.state import State
from rgpipeline.jobfile.job_grammar import with_schema
from rgpipeline.jobfile.spec_faults import section
from rgpipeline.read_texts import ReadText
from rgpipeline.spec import Sampling

Prompt = str | Sequence[int] | NDArray[np.integer[Any]]
TokenArray = NDArray[np.integer[Any]]

_BYTES = bytes | bytearray | memoryview
_ROW_IDS = (str, int, np.integer, UUID, date, Decimal)


def elements(values: object, name: str, wanted: str) -> list[Any]:
    """As `listed`, with Arrow scalars as Python values."""
    return [plain(item) for item in listed(values, name, wanted)]


def listed(values: object, name: str, wanted: str) -> list[Any]:
    """The elements of a list, an array or a column.

    Errors call it `name` and say to give `wanted`. Raises UserError for a value without order, a
    single value, or a table (which would iterate over the names of its columns).
    """
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        raise UserError(f"{name} is a table ({type_name(values)}); give one of its columns")
    if isinstance(values, str):
        raise UserError(f"{name} is a single text; give {wanted}")
    if isinstance(values, Iterable) and not isinstance(values, _BYTES | Mapping | Set):
        with suppress(TypeError):  # an array without dimensions
            return list(values)
    raise UserError(f"{name} is {type_name(values)}; give {wanted}")


def plain(value: Any) -> Any:
    """The Python value of an Arrow scalar; any other value unchanged."""
    return value.as_py() if hasattr(value, "as_py") else value


def prompt_value(prompt: object) -> str | TokenArray:
    """A prompt's text, or its token ids as an integer array [n].

    Accepts a str, a sequence of whole numbers, and a one-dimensional array or column of integers.
    Raises RowError naming the type of anything else.
    """
    prompt = plain(prompt)
    if isinstance(prompt, str):
        return str(prompt)
    if not isinstance(prompt, _BYTES | Mapping):
        if isinstance(prompt, Sequence):
            return _from_sequence(list(prompt))
        if hasattr(prompt, "__array__"):
            return _from_array(prompt)
    raise _neither(type_name(prompt))


def several_prompts(value: object) -> list[object] | None:
    """The prompts in a list of them; None for a single one, a text or token ids."""
    value = plain(value)
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, str) or not isinstance(value, Sequence):
        return None
    items = list(value)
    return None if items and all(_is_whole(type(plain(item))) for item in items) else items


def row_ids(ids: object, count: int) -> list[str]:
    """The ids of `count` prompts as texts; their indices if `ids` is None. Raises UserError."""
    if ids is None:
        return [str(index) for index in range(count)]
    given = elements(ids, "ids", "a list with one id for each prompt")
    if len(given) != count:
        raise UserError(f"ids: {len(given)} ids for {count} prompts")
    for index, one in enumerate(given):
        if isinstance(one, bool) or not isinstance(one, _ROW_IDS):
            raise UserError(f"ids[{index}] is {type_name(one)}; an id is a text or a whole number")
    return [str(one) for one in given]


def conversations(messages: object) -> list[object]:
    """One conversation (a list of messages), or a list or column of them, as a list of them."""
    wanted = 'a list of messages, such as [{"role": "user", "content": "Hello"}], or of such lists'
    given = [plain(one) for one in listed(plain(messages), "messages", wanted)]
    if not given:
        raise UserError(f"messages is empty; give {wanted}")
    if isinstance(given[0], dict):
        return [given]
    for index, one in enumerate(given):
        if isinstance(one, str | bytes) or not hasattr(one, "__iter__"):
            raise UserError(f"messages[{index}] is {type_name(one)}; give {wanted}")
    return [[plain(message) for message in one] for one in given]


def type_name(value: object) -> str:
    """A value's type, for an error."""
    if value is None:
        return "null"
    kind = type(value)
    home = kind.__module__.partition(".")[0]
    name = kind.__name__ if home == "builtins" else f"{home}.{kind.__name__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _from_sequence(items: list[Any]) -> TokenArray:
    kinds = set(map(type, items))
    if any(hasattr(kind, "as_py") for kind in kinds):
        items = [plain(item) for item in items]
        kinds = set(map(type, items))
    wrong = {kind for kind in kinds if not _is_whole(kind)}
    if wrong:
        index = next(index for index, item in enumerate(items) if type(item) in wrong)
        raise _neither(f"its item {index} is {type_name(items[index])}")
    try:
        return np.array(items, np.int64)
    except OverflowError:
        largest = max(items, key=abs)
        raise RowError(f"token id {largest} is outside the model's vocabulary") from None


def _from_array(prompt: Any) -> TokenArray:
    array = np.asarray(prompt)
    if array.ndim == 1 and array.dtype.kind in "iu":
        return array
    if array.ndim != 1:
        raise _neither(f"{type_name(prompt)} of {array.ndim} dimensions")
    raise _neither(f"{type_name(prompt)} of {array.dtype}")


def _is_whole(kind: type) -> bool:
    return kind is int or (issubclass(kind, int | np.integer) and kind is not bool)


def _neither(found: str) -> RowError:
    return RowError(f"it is neither a text nor a list of token ids, but {found}")


SamplingLike = Sampling | Mapping[str, Any]

# Keys of the job file that are arguments of Generator.load.
IN_PYTHON = {
    "model.adapter": "adapter=",
    "model.base": "base=",
    "model.chat_template": "chat_template=",
    "model.tokenizer": "tokenizer=",
}


def samplings(
    sampling: SamplingLike | Sequence[SamplingLike | None] | None, count: int
) -> list[Sampling]:
    """The sampling of each of `count` prompts. Raises UserError.

    In a list, None stands for the defaults. A null field of an Arrow struct does too, because
    every row of its column has every field.
    """
    if sampling is None or isinstance(sampling, Sampling | Mapping):
        return [_sampling({} if sampling is None else sampling, "sampling")] * count
    wanted = "a dict of sampling keys, or a list with one for each prompt"
    each = listed(sampling, "sampling", wanted)
    if len(each) != count:
        raise UserError(f"sampling: {len(each)} settings for {count} prompts")
    return [_sampling(one, f"sampling[{index}]") for index, one in enumerate(each)]


def _sampling(options: object, where: str) -> Sampling:
    if isinstance(options, Sampling):
        return with_schema(options, None)
    given = plain(options)
    if given is None:
        return Sampling()
    if not isinstance(given, Mapping):
        raise UserError(f"{where} is {type_name(given)}; give a dict of sampling keys")
    from_arrow = given is not options
    keys = {str(k): v for k, v in given.items() if not (from_arrow and v is None)}
    return with_schema(section(Sampling, where, **keys), None)


def starts(from_state: object, count: int) -> list[ReadText | None]:
    """What each of `count` prompts continues: one state for all, or one for each. Raises UserError.

    In a list, None stands for a prompt that continues nothing.
    """
    if from_state is None:
        return [None] * count
    if isinstance(from_state, State):
        return [from_state.text] * count
    wanted = "a State, or a list with one for each prompt"
    each = listed(from_state, "from_state", wanted)
    if len(each) != count:
        raise UserError(f"from_state: {len(each)} states for {count} prompts")
    for index, one in enumerate(each):
        if not isinstance(one, State | None):
            raise UserError(f"from_state[{index}] is {type_name(one)}; give {wanted}")
    return [None if one is None else one.text for one in each]
