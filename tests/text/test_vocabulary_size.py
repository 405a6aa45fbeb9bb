"""A model and a tokenizer with different numbers of tokens: what is said, and what ids mean."""

from pathlib import Path

import pytest

from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.text.vocabulary_size import size_note
from tests.text.conftest import GOLDEN
from tests.text.json_tokenizers import converted, write
from tests.text.streams import streamed

SIZE = 1024  # of the golden tokenizer


@pytest.fixture(scope="module")
def as_json(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = converted((GOLDEN / "tokenizer.model").read_bytes())
    return Tokenizer.load(write(tmp_path_factory.mktemp("json"), made))


def test_equal_sizes_need_no_word(tokenizer: Tokenizer) -> None:
    assert size_note(tokenizer, SIZE) == ""


@pytest.mark.parametrize(
    ("kind", "text"), [("tokenizer", "read ' ⁇ ' in"), ("as_json", "have no text in")]
)
def test_rows_that_pad_the_model_are_told_with_the_text_of_their_ids(
    kind: str, text: str, request: pytest.FixtureRequest
) -> None:
    told = size_note(request.getfixturevalue(kind), 1152)
    assert told.startswith("the model has 1,152 tokens, its tokenizer 1,024: ids from 1,024 on ")
    assert text in told
    assert "\n" not in told


def test_tokens_without_a_row_are_told_by_name(tmp_path: Path) -> None:
    made = converted((GOLDEN / "tokenizer.model").read_bytes())
    made.add_special_tokens(["<mask>"])
    tokenizer = Tokenizer.load(write(tmp_path, made, mask_token="<mask>"))
    tokenizer.require_within(SIZE)
    told = size_note(tokenizer, SIZE)
    assert told.startswith("the model has 1,024 tokens, its tokenizer 1,025: no text may spell")
    assert "'<mask>'" in told


@pytest.mark.parametrize(("kind", "text"), [("tokenizer", " ⁇ "), ("as_json", "")])
def test_an_id_without_a_piece_has_one_text_however_it_is_read(
    kind: str, text: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    ids = [*tokenizer.encode("ab", bos=False), 1100, *tokenizer.encode("ab", bos=False)]
    whole = tokenizer.decode(ids)
    assert text in whole
    assert whole.replace(text, "").replace(" ", "") == "abab"
    assert streamed(tokenizer, [[one] for one in ids]) == whole
    assert tokenizer.token_text(1100) == "token_id:1100"
