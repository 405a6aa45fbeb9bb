"""Numbers, texts and types of values, written for people. Layer 0."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rgpipeline.errors import UserError

_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: float) -> str:
    """`1,234`."""
    return f"{number:,.0f}"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def rate(per_second: float) -> str:
    """`2,310 tok/s`; below 10, one decimal."""
    digits = 1 if 0 < per_second < 10 else 0
    return f"{per_second:,.{digits}f} tok/s"


def duration(seconds: float) -> str:
    """`41 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; a zero part is left out."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, seconds_left = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours < 1:
        return _both(minutes, "min", seconds_left, "s")
    if hours < 48:
        return _both(hours, "h", minutes_left, "min")
    return _both(hours // 24, "d", hours % 24, "h")


def time_left(seconds: float | None, at_most: bool) -> str:
    """`5 min`, `at most 2 h`; `?` when it is unknown."""
    if seconds is None:
        return "?"
    return f"at most {duration(seconds)}" if at_most else duration(seconds)


def share(part: int, whole: int) -> str:
    """`66%`: 100% only when nothing is missing, 0% only when nothing is done."""
    if not whole:
        return "0%"
    percent = 100 * part // whole
    return "1%" if percent == 0 and part else f"{percent}%"


def size(number: float) -> str:
    """Bytes: `812 B`, `26.6 KB`, `5.4 GB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def one_line(text: str, width: int) -> str:
    """`text` on one line, cut to `width` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: max(width - 1, 0)].rstrip() + "…"


def encodable(text: str) -> str:
    r"""`text` with each half of a surrogate pair written out (`\udce9`), which UTF-8 can't encode.

    Such halves come from file names that aren't UTF-8 and from JSON's `"\ud800"`. Arrow and
    terminals refuse them. Any other text stays as it is.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def amount(number: float) -> str:
    """A number short enough for an axis: `0`, `12.5`, `950`, `1,200`, `65k`, `3.4M`."""
    if abs(number) < 10_000:
        return f"{number:,.0f}" if number == round(number) else f"{number:.3g}"
    limit, unit = next(pair for pair in _LARGE if abs(number) >= pair[0])
    return f"{number / limit:.3g}{unit}"


def kind_of(value: object) -> str:
    """The type of a value in a row: `text`, `a bool`, `an int`, `a list`, `an object`, `null`."""
    if value is None or isinstance(value, str):
        return "null" if value is None else "text"
    if isinstance(value, Mapping):
        return "an object"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _both(many: int, unit: str, rest: int, smaller: str) -> str:
    return f"{many} {unit} {rest} {smaller}" if rest else f"{many} {unit}"


@contextmanager
def said_as(names: Mapping[str, str]) -> Iterator[None]:
    """Replaces the names of settings in the messages of UserErrors raised in the block.

    Lower layers use the job file's names (`model.tokenizer`); Python callers and the command line
    have other names for the same settings.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        for field, name in names.items():
            message = message.replace(field, name)
        raise type(error)(message) from error
