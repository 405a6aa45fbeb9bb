"""The King James Bible, verse by verse, from Debian's package bible-kjv (public domain)."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_VERSE = re.compile(r"(\d?[A-Za-z]+)(\d+):(\d+) (.+)")


class Verse(NamedTuple):
    """One verse and where it stands."""

    book: str
    chapter: int
    number: int
    text: str

    @property
    def reference(self) -> str:
        return f"{self.book} {self.chapter}:{self.number}"


Chapter = list[Verse]


def read_chapters() -> list[Chapter]:
    """All chapters in order.

    Raises:
      SystemExit: the `bible` command is not installed.
    """
    if shutil.which("bible") is None:
        raise SystemExit("the King James text is missing: apt-get install bible-kjv")
    done = subprocess.run(
        ["bible", "-f"], input="gn1:1-rv22:21\n", capture_output=True, text=True, check=True
    )
    chapters: dict[tuple[str, int], Chapter] = {}
    for verse in _verses(done.stdout):
        chapters.setdefault((verse.book, verse.chapter), []).append(verse)
    return list(chapters.values())


def split(chapters: list[Chapter], share: float, seed: int) -> tuple[list[Chapter], list[Chapter]]:
    """(training, held-out) chapters; `share` of them are held out."""
    chosen = np.random.default_rng(seed).random(len(chapters)) < share
    training = [chapter for chapter, out in zip(chapters, chosen, strict=True) if not out]
    return training, [chapter for chapter, out in zip(chapters, chosen, strict=True) if out]


def passages(chapters: list[Chapter], rng: np.random.Generator, mean: float) -> Iterator[str]:
    """Runs of whole verses, one verse a line; `mean` verses on average, none across chapters."""
    for chapter in chapters:
        start = 0
        while start < len(chapter):
            stop = start + int(rng.geometric(1 / mean))
            yield "\n".join(verse.text for verse in chapter[start:stop])
            start = stop


def _verses(text: str) -> Iterator[Verse]:
    seen = set()
    for line in text.splitlines():
        match = _VERSE.match(line)
        if match:
            book, chapter, number, words = match.groups()
            verse = Verse(book, int(chapter), int(number), " ".join(words.split()))
            if verse.reference not in seen:  # the program greets with the first verse
                seen.add(verse.reference)
                yield verse
