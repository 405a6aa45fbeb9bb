"""Cuts CSV and TSV into rows: a line break between quotes belongs to its field.

The rules are those of RFC 4180, with the usual leniency: a quote counts only where a field begins
with it, and what follows the closing quote belongs to the field. pyarrow reads fields in the same
way, but doesn't tell where in a file its rows begin.
"""

import re
from collections.abc import Iterator
from typing import IO

from rgpipeline.io.row_stream import BOM

_CHUNK = 1 << 18  # bytes that are read at once
_LONGEST = 64 << 20  # bytes of a row: after a quote that is never closed, a file would be one row


def row_pattern(delimiter: str) -> re.Pattern[bytes]:
    """Matches a row and its line break; the group `row` is the row alone.

    It doesn't match a row that has no line break yet, or an open quote.
    """
    between = re.escape(delimiter.encode())
    plain = rb"[^" + between + rb"\r\n]*+"
    # Without alternatives: Python before 3.11.5 goes back to them out of a possessive group.
    quoted = rb'(?:"[^"]*+(?:""[^"]*+)*+")?+'
    field = quoted + rb'(?!")' + plain
    fields = field + rb"(?:" + between + field + rb")*+"
    ending = rb"(?:\r\n|\n|\r(?!\Z))"  # after a \r at the end, a \n may still come
    # Most rows have no quote, and are found fastest by their line break.
    return re.compile(rb'(?P<row>[^"\r\n]*+' + rb"(?=[\r\n])|" + fields + rb")" + ending)


def split_rows(
    stream: IO[bytes], offset: int, pattern: re.Pattern[bytes]
) -> Iterator[tuple[int, bytes]]:
    """(byte offset, row without its line break) of every row that isn't blank.

    `offset`: where the stream stands. After the last line break, the rest of the file is a row,
    even one with an open quote. Raises ValueError for a row of more than 64 MiB.
    """
    buffer, position, ended = b"", 0, False
    while not ended:
        data = stream.read(max(_CHUNK, len(buffer) - position))
        offset += position
        ended = not data
        buffer, position = buffer[position:] + (data or b"\n"), 0
        if offset == 0 and buffer.startswith(BOM):
            position = len(BOM)
        while found := pattern.match(buffer, position):
            if row := found["row"]:
                yield offset + position, row
            position = found.end()
        if len(buffer) - position > _LONGEST:
            raise ValueError(
                f"the row at byte {offset + position:,} has more than {_LONGEST:,} bytes; a quote "
                f"may be opened in it that is never closed"
            )
    if rest := buffer[position:-1]:
        yield offset + position, rest
