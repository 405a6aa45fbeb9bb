"""Numbers as people read them."""

import pytest

from rgpipeline import wording


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (41.4, "41 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_duration(seconds: float, told: str) -> None:
    assert wording.duration(seconds) == told


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [(0, 0, "0%"), (0, 9, "0%"), (1, 1000, "1%"), (999, 1000, "99%"), (1000, 1000, "100%")],
)
def test_share_is_100_only_when_nothing_is_missing(part: int, whole: int, told: str) -> None:
    assert wording.share(part, whole) == told


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "0"), (12.5, "12.5"), (950, "950"), (1200, "1,200"), (65536, "65.5k"), (3.4e6, "3.4M")],
)
def test_amount(number: float, told: str) -> None:
    assert wording.amount(number) == told


def test_rate_has_a_decimal_when_small() -> None:
    assert [wording.rate(r) for r in (0, 3.14, 2310.4)] == ["0 tok/s", "3.1 tok/s", "2,310 tok/s"]


def test_counted() -> None:
    assert [wording.counted(n, "row") for n in (0, 1, 1234)] == ["0 rows", "1 row", "1,234 rows"]


def test_size() -> None:
    assert [wording.size(n) for n in (812, 26_600, 5.37e9)] == ["812 B", "26.6 KB", "5.4 GB"]


def test_one_line_cuts_to_the_width() -> None:
    assert wording.one_line("And  he\nsaid, Behold", 12) == "And he said…"
