"""Ranges of rows in files of text, plain or compressed, read from front to back.

A plan keeps the byte offset of every 1024th row of a plain file, so that a range is read from the
mark before it. Nothing of a compressed file can be skipped: its ranges should be read in their
order, and each continues where the one before ended.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from rgpipeline.errors import InputError
from rgpipeline.input_formats import COMPRESSIONS
from rgpipeline.io.input_files import decompressed, input_error, open_file
from rgpipeline.records import InputFile
from rgpipeline.storage.filesystems import StorageOptions

MARK_ROWS = 1024  # rows between two marks
BOM = b"\xef\xbb\xbf"

# (byte offset, bytes) of every row of a stream that stands at an offset: 0, or that of a row.
Split = Callable[[IO[bytes], int], Iterator[tuple[int, bytes]]]


class RowStreams:
    """Reads the rows of files, by `split`. Belongs to one thread."""

    def __init__(self, options: StorageOptions | None, split: Split) -> None:
        self._options = options
        self._split = split
        self._left: _RowStream | None = None  # open, where the last range ended

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """The file's content. Any error in reading it becomes an `input_error`."""
        try:
            with open_file(path, self._options) as file:
                yield decompressed(file, path)
        except Exception as error:
            raise input_error(path, error) from error

    def rows(self, file: InputFile, start: int, stop: int) -> list[bytes]:
        """Rows [start, stop). Raises InputError when the file has fewer."""
        stream, self._left = self._left, None
        try:
            if stream is None or stream.path != file.path or stream.row > start:
                stream = _RowStream(file.path, self._options, self._split)
            stream.skip_to(start, file.marks)
            rows = (stream.next() for _ in range(stop - start))
            found = [row for row in rows if row is not None]
        except Exception as error:
            raise input_error(file.path, error) from error
        if len(found) < stop - start:
            raise InputError(f"{file.path}: has only {stream.row} rows now; it was changed")
        if stop < file.rows and is_compressed(file.path):
            self._left = stream
        return found


class _RowStream:
    """The rows of one file, from front to back."""

    def __init__(self, path: str, options: StorageOptions | None, split: Split) -> None:
        self.path = path
        self.row = 0  # the next
        self._split = split
        self._file = open_file(path, options)
        self._stream = decompressed(self._file, path)
        self._rows = split(self._stream, 0)

    def next(self) -> bytes | None:
        """The next row; None at the end."""
        found = next(self._rows, None)
        if found is None:
            return None
        self.row += 1
        return found[1]

    def skip_to(self, row: int, marks: tuple[int, ...]) -> None:
        """Skips to `row`, from the nearest mark before it."""
        mark = min(row // MARK_ROWS, len(marks) - 1)
        if mark > 0:
            self._stream.seek(marks[mark])
            self.row, self._rows = mark * MARK_ROWS, self._split(self._stream, marks[mark])
        while self.row < row and self.next() is not None:
            pass


def is_compressed(path: str) -> bool:
    return path.endswith(tuple(COMPRESSIONS))
