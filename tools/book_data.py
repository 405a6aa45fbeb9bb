"""Makes the data of the example in jobs/book: the longest book, and forty beginnings to go on from.

python -m tools.book_data jobs/book      (needs Debian's package bible-kjv)
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tools.kjv import Verse, read_chapters

_BOOK = "Jer"  # the most characters
_QUESTIONS = 40
_WORDS = 4  # of a verse, that its question gives


def main(folder: Path) -> None:
    """Writes both files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    verses = [verse for chapter in read_chapters() for verse in chapter if verse.book == _BOOK]
    text = "\n".join(verse.text for verse in verses)
    book = pa.table({"title": ["Jeremiah"], "text": [text]})
    pq.write_table(book, folder / "jeremiah.parquet", compression="zstd", compression_level=19)
    lines = (json.dumps(row) + "\n" for row in _questions(verses))
    (folder / "questions.jsonl").write_text("".join(lines))


def _questions(verses: list[Verse]) -> Iterator[dict[str, str]]:
    """Beginnings of verses from all over the book."""
    for verse in verses[:: len(verses) // _QUESTIONS][:_QUESTIONS]:
        opening = " ".join(verse.text.split()[:_WORDS])
        yield {"ref": verse.reference, "question": f"\n{opening}"}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
