"""Strategies for Arrow columns: every type that Parquet can hold, in every role of a job."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

Values = st.SearchStrategy[Any]
Typed = tuple[pa.DataType, Values]  # a type, and values that it can hold

TEXTS = st.text("ab é\0", max_size=5)
GOOD_TEXTS = st.text("ab ", min_size=1, max_size=5)
DAYS = st.dates(date(1900, 1, 1), date(2100, 1, 1))
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
SECONDS = MOMENTS.map(lambda moment: moment.replace(microsecond=0))


def _signed(bits: int) -> Values:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) | st.integers(0, 9)


def _unsigned(bits: int) -> Values:
    return st.integers(0, 2**bits - 1) | st.integers(0, 9)


def _decimals(digits: int) -> Values:
    return st.integers(0, 10**digits - 1).map(lambda whole: Decimal(whole).scaleb(-2))


def _texts(values: Values) -> list[Typed]:
    kinds = (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    )
    return [(kind, values) for kind in kinds]


INTEGERS: list[Typed] = [
    *((kind, _signed(kind.bit_width)) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((k, _unsigned(k.bit_width)) for k in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
]
LEAVES: list[Typed] = [  # that may stand within others
    *INTEGERS,
    *_texts(TEXTS),
    (pa.null(), st.none()),
    (pa.bool_(), st.booleans()),
    (pa.float16(), st.floats(width=16).map(float)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats() | st.integers(0, 9).map(float)),
    (pa.decimal32(7, 2), _decimals(7)),
    (pa.decimal64(15, 2), _decimals(15)),
    (pa.decimal128(30, 2), _decimals(28)),
    (pa.decimal256(60, 2), _decimals(28)),
    (pa.dictionary(pa.int32(), pa.int64()), _signed(64)),
    (pa.binary(), st.binary(max_size=4)),
    (pa.large_binary(), st.binary(max_size=4)),
    (pa.binary_view(), st.binary(max_size=4)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.date32(), DAYS),
    (pa.date64(), DAYS),
    (pa.time32("s"), st.just(time(1, 2, 3))),
    (pa.time32("ms"), st.just(time(1, 2, 3, 4000))),
    (pa.time64("us"), st.times()),
    (pa.time64("ns"), st.times()),
    (pa.timestamp("s"), SECONDS),
    (pa.timestamp("ms"), SECONDS),
    (pa.timestamp("us"), MOMENTS),
    (pa.timestamp("ns"), MOMENTS),
    (pa.timestamp("us", "Europe/Berlin"), MOMENTS),
    (pa.duration("us"), st.timedeltas(timedelta(0), timedelta(9))),
]
EXTENSIONS: list[Typed] = [  # with values of their storage types
    (pa.bool8(), st.integers(0, 1)),
    (pa.uuid(), st.uuids().map(lambda uuid: uuid.bytes)),
    (pa.json_(), st.sampled_from(['"ab"', "5", "null", "{", '{"max_tokens": 2}', "[1]", ""])),
]


def _listed(item: Typed, least: int = 0) -> list[Typed]:
    kind, values = item
    lists = st.lists(st.none() | values, min_size=least, max_size=3)
    pair = st.lists(values, min_size=2, max_size=2)
    return [
        (pa.list_(kind), lists),
        (pa.large_list(kind), lists),
        (pa.list_view(kind), lists),
        (pa.list_(kind, 2), pair),
    ]


def _struct(**fields: Typed) -> Typed:
    kind = pa.struct({name: typed[0] for name, typed in fields.items()})
    return kind, st.fixed_dictionaries({n: st.none() | typed[1] for n, typed in fields.items()})


def _map(item: Typed) -> Typed:
    kind, values = item
    return pa.map_(pa.string(), kind), st.dictionaries(GOOD_TEXTS, values, max_size=2)


@st.composite
def any_type(draw: st.DrawFn) -> Typed:
    """A type without regard to any role, up to two levels deep."""
    if not draw(st.integers(0, 9)):
        return draw(st.sampled_from(EXTENSIONS))
    typed = draw(st.sampled_from(LEAVES))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        choices = [
            *_listed(typed),
            _struct(a=typed),
            _struct(a=typed, role=(pa.string(), TEXTS)),
            _map(typed),
        ]
        typed = draw(st.sampled_from(choices))
    return typed


_MESSAGE = _struct(role=(pa.string(), st.just("user")), content=(pa.string(), GOOD_TEXTS))
_COUNT = (pa.int64(), st.integers(1, 6))
ROLES: dict[str, tuple[dict[str, Any], list[Typed]]] = {
    "prompt": ({"columns": {"prompt": "x"}}, _texts(GOOD_TEXTS)),
    "template": ({"template": "a {x} {prompt}"}, [*LEAVES, *EXTENSIONS]),
    "id": ({"columns": {"prompt": "prompt", "id": "x"}}, [*LEAVES, *EXTENSIONS]),
    "prompt_ids": (
        {"columns": {"prompt_ids": "x"}},
        [t for kind, _ in INTEGERS for t in _listed((kind, st.integers(0, 9)), 1)],
    ),
    "messages": (
        {"columns": {"messages": "x"}},
        [*_listed(_MESSAGE, 1), (pa.string(), st.just('[{"role": "user", "content": "ab"}]'))],
    ),
    "sampling": (
        {"columns": {"prompt": "prompt", "sampling": "x"}},
        [
            _struct(max_tokens=_COUNT, temperature=(pa.float32(), st.floats(0, 2, width=32))),
            (pa.map_(pa.string(), pa.int32()), st.just({"max_tokens": 3, "stop_ids": 4})),
            *_texts(st.sampled_from(['{"max_tokens": 2}', "", '{"stop": "a"}'])),
        ],
    ),
    "kept": ({"columns": {"prompt": "prompt"}}, [*LEAVES, *EXTENSIONS]),
}
