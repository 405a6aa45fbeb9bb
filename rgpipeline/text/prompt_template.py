"""Prompts filled from columns: `"Summarise:\\n{text}\\n"`."""

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from numbers import Number
from string import Formatter
from uuid import UUID

from rgpipeline.errors import JobError, RowError
from rgpipeline.wording import kind_of

_FILLS = (str, Number, date, time, UUID)  # types with one obvious spelling


class PromptTemplate:
    """A text with `{column}` fields; `{{` and `}}` stand for the braces themselves.

    A field is a column's whole name and nothing more: no indices, conversions or format
    specifications, and `{meta.title}` is a column of that name.
    """

    def __init__(self, template: str) -> None:
        """Raises JobError naming the fault: unbalanced braces, no field, a field not plain."""
        self._parts: list[tuple[str, str | None]] = []  # literal text, then a field
        try:
            for literal, name, spec, conversion in Formatter().parse(template):
                if name is not None:
                    _require_plain(name, spec, conversion)
                self._parts.append((literal, name))
        except ValueError as error:
            raise JobError(
                f"input.template: {error}; write {{{{ and }}}} for the braces themselves"
            ) from error
        self.fields = tuple(dict.fromkeys(name for _, name in self._parts if name is not None))
        if not self.fields:
            raise JobError(
                "input.template: names no column, so all rows would be alike; write {column} "
                "where its text goes"
            )

    def fill(self, row: Mapping[str, object]) -> str:
        """The prompt of one row, see `parts`."""
        return "".join(text for text, _ in self.parts(row))

    def parts(self, row: Mapping[str, object]) -> list[tuple[str, bool]]:
        """The prompt of one row in parts, each with whether it is from the row.

        Numbers and dates are spelled as Python's `str` does. Raises RowError when a field's column
        is missing, null, or neither text, number nor date.
        """
        filled: list[tuple[str, bool]] = []
        for literal, name in self._parts:
            filled.append((literal, False))
            if name is not None:
                filled.append((_spell(name, row.get(name)), True))
        return filled


def _require_plain(name: str, spec: str | None, conversion: str | None) -> None:
    written = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
    if not name:
        raise JobError("input.template: {} names no column; write {column}")
    if spec or conversion or any(char in name for char in "[]{}"):
        raise JobError(
            f"input.template: {{{written}}} is more than a column's name; write {{column}}, and "
            f"{{{{ and }}}} for the braces themselves"
        )


def _spell(name: str, value: object) -> str:
    if value is None:
        raise RowError(f"column {name!r}, which the template uses, is null or missing")
    if not isinstance(value, _FILLS):
        raise RowError(
            f"column {name!r}, which the template uses, holds {kind_of(value)}; "
            f"text, a number or a date is needed"
        )
    return format(value, "f") if isinstance(value, Decimal) else str(value)
