"""Stop strings are found as in the whole text, with `str.find` as oracle; some name tokens."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rgpipeline.spec import Sampling
from rgpipeline.text.stops import Cut, StopMatcher, never_found, with_named_tokens
from rgpipeline.text.tokenizer import Tokenizer

letters = st.text(alphabet="ab\n", max_size=12)
stop_lists = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), max_size=4)


def cut(stops: list[str], pieces: list[str]) -> Cut:
    """All emitted text and the hit, with a matcher taken up from a saved state at every piece."""
    text, state = "", None
    for piece in pieces:
        matcher = StopMatcher(stops, state)
        emit, hit = matcher.push(piece)
        text += emit
        if hit:
            return Cut(text, hit)
        state = json.loads(json.dumps(matcher.state()))
    emit, hit = StopMatcher(stops, state).flush()
    return Cut(text + emit, hit)


def oracle(stops: list[str], text: str) -> Cut:
    """The leftmost stop string of the whole text, the shortest of those that begin there."""
    found = [(text.find(stop), len(stop), stop) for stop in stops if stop in text]
    if not found:
        return Cut(text, None)
    start, _, stop = min(found)
    return Cut(text[:start], stop)


@settings(max_examples=1500, deadline=None)
@given(stop_lists, st.lists(letters, max_size=5))
@example(["b", "abc"], ["ab"])
@example(["b", "abc"], ["a", "b", "c"])
def test_any_splitting_gives_what_the_whole_text_gives(stops: list[str], pieces: list[str]) -> None:
    assert cut(stops, pieces) == oracle(stops, "".join(pieces))


@settings(max_examples=300, deadline=None)
@given(stop_lists, letters)
def test_character_by_character_gives_the_same(stops: list[str], text: str) -> None:
    assert cut(stops, list(text)) == oracle(stops, text)


@settings(max_examples=300, deadline=None)
@given(stop_lists.filter(bool), st.lists(letters, min_size=1, max_size=5))
def test_held_back_is_only_the_beginning_of_a_stop_string(
    stops: list[str], pieces: list[str]
) -> None:
    matcher = StopMatcher(stops)
    hits = [matcher.push(piece).hit for piece in pieces]
    held = matcher.state()["held"]
    assert hits[-1] or not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_text_that_cannot_begin_a_stop_string_comes_at_once() -> None:
    assert StopMatcher(["\n\n"]).push("one\ntwo") == ("one\ntwo", None)


def test_a_possible_beginning_is_held_until_it_is_known() -> None:
    matcher = StopMatcher(["</end>"])
    assert [matcher.push(piece) for piece in ("a</", "en", "ded")] == [
        ("a", None),
        ("", None),
        ("</ended", None),
    ]


def test_the_stop_string_and_all_after_it_are_dropped() -> None:
    matcher = StopMatcher(["STOP"])
    assert matcher.push("go ST") == ("go ", None)
    assert matcher.push("OP gone") == ("", "STOP")
    assert matcher.push("more") == ("", "STOP")


def test_an_end_of_text_settles_what_was_held_back() -> None:
    matcher = StopMatcher(["bc", "abcd"])
    assert matcher.push("abc") == ("", None)
    assert matcher.flush() == ("a", "bc")


def test_characters_special_to_patterns_are_only_characters() -> None:
    assert StopMatcher([".*"]).push("a.b.*c") == ("a.b", ".*")


def test_without_stop_strings_all_text_passes() -> None:
    matcher = StopMatcher([])
    assert (matcher.push("text"), matcher.flush()) == (("text", None), ("", None))


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(["a", ""])


@pytest.mark.parametrize("name", ["<eos>", "<bos>", "<pad>"])
def test_a_stop_string_that_names_a_silent_token_is_its_id_too(
    tokenizer: Tokenizer, name: str
) -> None:
    sampling = with_named_tokens(Sampling(stop=("END", name), stop_ids=(9,)), tokenizer)
    assert sampling.stop_ids == (9, tokenizer.piece_to_id(name))
    assert sampling.stop == ("END", name)


@pytest.mark.parametrize("stop", ["<end_of_turn>", "END", "\n\n", "<no_such_token>", "eos"])
def test_a_stop_string_that_may_be_found_in_text_stays_text_alone(
    tokenizer: Tokenizer, stop: str
) -> None:
    assert with_named_tokens(Sampling(stop=stop), tokenizer).stop_ids == ()


def test_a_silent_token_amid_other_text_is_never_found(tokenizer: Tokenizer) -> None:
    stops = ["a<eos>", "<eos>", "<end_of_turn>\n", "<b>", "a < b"]
    assert never_found(stops, tokenizer) == [("a<eos>", "<eos>")]
