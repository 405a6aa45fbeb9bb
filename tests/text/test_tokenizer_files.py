"""What is in a folder decides what its tokenizer is: the rows of the table in docs/weights.md."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from rgpipeline.errors import WeightsError
from rgpipeline.text.sentencepiece_model import SentencePieceModel
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.text.tokenizer_json import TokenizerJson
from tests.text.json_tokenizers import converted, write

GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizer"
MODEL = (GOLDEN / "tokenizer.model").read_bytes()
START = "<|im_start|>"
WITH_START = "a<|im_start|>b"


def with_token(made: tokenizers.Tokenizer, content: str, **flags: bool) -> tokenizers.Tokenizer:
    made.add_tokens([tokenizers.AddedToken(content, normalized=False, special=True, **flags)])
    return made


def renamed(old: str, new: str) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(converted(MODEL).to_str().replace(f'"{old}"', f'"{new}"'))


def both(folder: Path, made: tokenizers.Tokenizer, **config: Any) -> str:
    shutil.copy(GOLDEN / "tokenizer.model", folder)
    return write(folder, made, **config)


def kind(tokenizer: Tokenizer) -> type:
    return type(tokenizer._model)


def test_tokenizer_model_alone(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "tokenizer.model", tmp_path)
    assert kind(Tokenizer.load(str(tmp_path))) is SentencePieceModel


def test_tokenizer_json_alone_as_transformers_5_saves_it(tmp_path: Path) -> None:
    url = write(tmp_path, converted(MODEL), extra_special_tokens=["<start_of_turn>"])
    tokenizer = Tokenizer.load(url)
    assert kind(tokenizer) is TokenizerJson
    assert tokenizer.note == ""
    golden = Tokenizer.load(str(GOLDEN))
    assert tokenizer.encode("In the beginning") == golden.encode("In the beginning")
    assert (tokenizer.bos_id, tokenizer.eos_id) == (golden.bos_id, golden.eos_id)


def test_both_with_the_same_tokens_is_tokenizer_model(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(both(tmp_path, converted(MODEL)))
    assert kind(tokenizer) is SentencePieceModel
    assert tokenizer.note == ""


def test_conversions_of_gemma_that_call_a_byte_a_tab_are_the_same(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(both(tmp_path, renamed("<0x09>", "\\t")))
    assert kind(tokenizer) is SentencePieceModel


def test_both_with_more_in_tokenizer_json_is_that_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "rgpipeline"):
        tokenizer = Tokenizer.load(both(tmp_path, with_token(converted(MODEL), START)))
    assert kind(tokenizer) is TokenizerJson
    assert 1024 in tokenizer.encode(WITH_START)
    line = (
        f"{tmp_path}: tokenizer.model (1,024 tokens) and tokenizer.json (1,025) differ; tokenizer"
    )
    assert line in tokenizer.note
    assert "tokenizer.json is used" in tokenizer.note
    assert tokenizer.note in caplog.messages


def test_both_with_as_many_but_other_tokens_is_tokenizer_json(tmp_path: Path) -> None:
    unused = "<end_of_turn>"
    tokenizer = Tokenizer.load(both(tmp_path, renamed(unused, START)))
    assert kind(tokenizer) is TokenizerJson
    assert tokenizer.piece_to_id(START) == Tokenizer.load(str(GOLDEN)).piece_to_id(unused)
    assert "(1,024 tokens) and tokenizer.json (1,024) differ" in tokenizer.note


def test_both_with_fewer_in_tokenizer_json_is_tokenizer_model(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "tokenizer.model", tmp_path)
    small = {"added_tokens": [], "model": {"type": "BPE", "vocab": {"<pad>": 0}, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(small))
    tokenizer = Tokenizer.load(str(tmp_path))
    assert kind(tokenizer) is SentencePieceModel
    assert "tokenizer.json (1) differ; tokenizer.model is used" in tokenizer.note


@pytest.mark.parametrize("model", [True, False])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {START: 1024}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1024": {"content": START}}}),
        ("tokenizer_config.json", {"extra_special_tokens": [START]}),
        ("special_tokens_map.json", {"additional_special_tokens": [{"content": START}]}),
    ],
)
def test_tokens_of_other_files_are_added_to_a_tokenizer_json(
    tmp_path: Path, name: str, content: dict[str, Any], model: bool
) -> None:
    url = both(tmp_path, converted(MODEL))
    (tmp_path / name).write_text(json.dumps(content))
    if not model:
        (tmp_path / "tokenizer.model").unlink()
    tokenizer = Tokenizer.load(url)
    assert kind(tokenizer) is TokenizerJson
    assert tokenizer.encode(WITH_START, bos=False)[1] == 1024
    assert tokenizer.decode([1024]) == ("" if "special" in json.dumps(content) else START)


def test_a_declared_token_of_another_id_is_refused(tmp_path: Path) -> None:
    url = write(tmp_path, converted(MODEL))
    (tmp_path / "added_tokens.json").write_text(json.dumps({START: 2000}))
    with pytest.raises(WeightsError, match=r"tokenizer\.json: .*im_start.* has the id 1024.* 2000"):
        Tokenizer.load(url)


def test_a_file_named_itself_is_taken(tmp_path: Path) -> None:
    url = both(tmp_path, with_token(converted(MODEL), START))
    assert kind(Tokenizer.load(f"{url}/tokenizer.model")) is SentencePieceModel
    named = Tokenizer.load(f"{url}/tokenizer.json")
    assert kind(named) is TokenizerJson
    assert named.note == ""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end_of_turn>"}))
    assert Tokenizer.load(f"{url}/tokenizer.json").eos_id == named.piece_to_id("<end_of_turn>")


def test_neither_is_told_with_what_does_without(tmp_path: Path) -> None:
    assert Tokenizer.find(str(tmp_path)) is None
    with pytest.raises(WeightsError, match=r"no tokenizer\.model or tokenizer\.json there; only"):
        Tokenizer.load(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    ["{}", '{"model": {"type": "BPE"}}', '{"model": 3}', "[]", "{", '{"added_tokens": [3]}'],
)
def test_a_damaged_tokenizer_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match=rf"{tmp_path}/tokenizer\.json: "):
        Tokenizer.load(str(tmp_path))


def test_a_git_lfs_pointer_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        Tokenizer.load(str(tmp_path))


def test_more_tokens_than_the_model_are_refused_but_fewer_are_fine(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write(tmp_path, with_token(converted(MODEL), START)))
    with pytest.raises(WeightsError, match=r"has 1,025 tokens, the model only 1,024"):
        tokenizer.require_within(1024)
    tokenizer.require_within(1025)
    tokenizer.require_within(1152)


@pytest.mark.parametrize("role", ["pad_token", "mask_token"])
def test_padding_beyond_the_model_is_no_reason_to_refuse(tmp_path: Path, role: str) -> None:
    made = with_token(converted(MODEL), "[PAD]")
    tokenizer = Tokenizer.load(write(tmp_path, made, **{role: "[PAD]"}))
    tokenizer.require_within(1024)
    assert tokenizer.encode("a[PAD]")[-1] == 1024  # which the engine refuses, for this row
