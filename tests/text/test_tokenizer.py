"""The tokenizer agrees with the golden cases and with sentencepiece, and names what it can't do."""

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
import sentencepiece as spm

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizer"
CASES = json.loads((GOLDEN / "cases.json").read_text())
MODEL = (GOLDEN / "tokenizer.model").read_bytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["text"][:20]))
def test_golden_case(tokenizer: Tokenizer, case: dict) -> None:
    assert tokenizer.encode(case["text"], bos=False) == case["ids"]
    assert [tokenizer.piece(index) for index in case["ids"]] == case["pieces"]
    assert tokenizer.decode(case["ids"]) == case["decoded"]


def test_bos_comes_first_and_eos_is_not_added(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Hello") == [2, *tokenizer.encode("Hello", bos=False)]


def test_empty_text_is_bos_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == [2]


def test_ids_are_those_of_the_model_file(tokenizer: Tokenizer) -> None:
    official = spm.SentencePieceProcessor(model_proto=MODEL)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (
        official.bos_id(),
        official.eos_id(),
        official.pad_id(),
    )
    assert tokenizer.vocab_size == official.vocab_size()


def test_turn_symbols_in_text_are_their_tokens_and_control_symbols_are_not(
    tokenizer: Tokenizer,
) -> None:
    assert tokenizer.encode("a<end_of_turn>", bos=False)[-1] == tokenizer.piece_to_id(
        "<end_of_turn>"
    )
    assert tokenizer.eos_id not in tokenizer.encode("a<eos>", bos=False)


def test_piece_to_id_of_an_unknown_piece_is_none(tokenizer: Tokenizer) -> None:
    assert tokenizer.piece_to_id("<no such piece>") is None
    assert tokenizer.piece_to_id("<unk>") == tokenizer.unk_id


def test_decodes_numpy_ids(tokenizer: Tokenizer) -> None:
    ids = np.array(tokenizer.encode("In the beginning"), np.int32)
    assert tokenizer.decode(ids) == "In the beginning"


def test_ids_beyond_the_vocabulary_read_as_unknown(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([5000]) == tokenizer.decode([tokenizer.unk_id])


def test_a_negative_id_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        tokenizer.decode([4, -1])


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["text"]])
def test_what_is_not_text_is_a_row_error(tokenizer: Tokenizer, value: object) -> None:
    with pytest.raises(RowError, match=type(value).__name__):
        tokenizer.encode(value)


def test_half_a_surrogate_pair_is_a_row_error_with_its_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(RowError, match="character 2"):
        tokenizer.encode("ab\ud800")


def test_loads_a_file_or_its_folder_from_any_store() -> None:
    fsspec.filesystem("memory").pipe_file("/model/tokenizer.model", MODEL)
    for url in ("memory://model", "memory://model/", "memory://model/tokenizer.model"):
        assert Tokenizer.load(url).vocab_size == 1024


def test_a_missing_model_names_the_address_and_the_setting(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{tmp_path}.*model\.tokenizer"):
        Tokenizer.load(str(tmp_path))


def test_a_store_that_fails_is_told_apart_from_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be opened \(.*storage_options"):
        Tokenizer.load("s3://bucket/model", {"s3": {"no_such_option": 1}})


def test_storage_options_reach_their_store(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(MODEL)
    options = {"dir": {"path": str(tmp_path), "target_protocol": "file"}}
    assert Tokenizer.load("dir://tokenizer.model", options).vocab_size == 1024


@pytest.mark.parametrize("name", ["s3", "s3a"])
def test_storage_options_go_by_any_name_of_the_protocol(name: str) -> None:
    with pytest.raises(WeightsError, match="no_such_option"):
        Tokenizer.load("s3://bucket/model", {name: {"no_such_option": 1}})


def test_an_unknown_store_is_named() -> None:
    with pytest.raises(WeightsError, match="nosuch://x"):
        Tokenizer.load("nosuch://x")


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, MODEL[:5000]])
def test_a_corrupt_model_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"tokenizer\.model: not a sentencepiece model"):
        Tokenizer.load(str(path))


def test_a_git_lfs_pointer_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        Tokenizer.load(str(tmp_path))
