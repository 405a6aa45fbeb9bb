"""A folder whose files add tokens to its tokenizer.model is refused; one that adds none is used.

The files' shapes are those that transformers 5.24 writes (`save_pretrained`) and those of 4.x.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizer"
TURN = Tokenizer.load(str(GOLDEN)).piece_to_id("<start_of_turn>")
START = "<|im_start|>"


def added(content: str, id: int, **flags: bool) -> dict[str, Any]:
    off = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, **off, "special": True, **flags}


def folder(path: Path, name: str, content: Any) -> str:
    """The golden tokenizer.model with one more file beside it."""
    shutil.copy(GOLDEN / "tokenizer.model", path)
    (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def tokenizer_json(*tokens: dict[str, Any], **vocab: int) -> dict[str, Any]:
    return {"version": "1.0", "added_tokens": tokens, "model": {"type": "BPE", "vocab": vocab}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {START: 1024}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1024": added(START, 1024)}}),
        ("tokenizer_config.json", {"additional_special_tokens": [START]}),
        ("tokenizer_config.json", {"extra_special_tokens": {"turn": START}}),
        ("tokenizer_config.json", {"eos_token": {"content": START}}),
        ("special_tokens_map.json", {"additional_special_tokens": [{"content": START}]}),
        ("tokenizer.json", tokenizer_json(added(START, 1024))),
        ("tokenizer.json", tokenizer_json(**{"a": 4, START: 1024})),
        ("tokenizer.json", {"model": {"vocab": [["a", 0.0]] * 1024 + [[START, 0.0]]}}),
    ],
)
def test_a_token_that_tokenizer_model_lacks_is_refused_by_name(
    tmp_path: Path, name: str, content: Any
) -> None:
    with pytest.raises(WeightsError, match=rf"{tmp_path}/{name}: .*'<\|im_start\|>'"):
        Tokenizer.load(folder(tmp_path, name, content))


@pytest.mark.parametrize(
    "token",
    [
        added("<start_of_turn>", 7),  # another id
        added("<start_of_turn>", TURN or 0, lstrip=True),  # takes the spaces before it
        added("<start_of_turn", TURN or 0),  # renamed
    ],
)
def test_a_token_that_tokenizer_model_reads_otherwise_is_refused(
    tmp_path: Path, token: dict[str, Any]
) -> None:
    with pytest.raises(WeightsError, match=r"'<start_of_turn"):
        Tokenizer.load(folder(tmp_path, "tokenizer.json", tokenizer_json(token)))


def test_tokens_that_tokenizer_model_has_are_no_reason_to_refuse(tmp_path: Path) -> None:
    model = Tokenizer.load(str(GOLDEN))
    names = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
    tokens = [
        added(name, index) for name in names if (index := model.piece_to_id(name)) is not None
    ]
    url = folder(tmp_path, "tokenizer.json", tokenizer_json(*tokens, a=4))
    folder(tmp_path, "tokenizer_config.json", {"eos_token": "<eos>", "add_bos_token": True})
    assert len(tokens) == len(names)
    assert Tokenizer.load(url).encode("a<end_of_turn>") == model.encode("a<end_of_turn>")


def test_padding_may_be_missing_and_a_text_that_spells_it_is_a_row_error(tmp_path: Path) -> None:
    folder(tmp_path, "added_tokens.json", {"[PAD]": 1024})
    tokenizer = Tokenizer.load(folder(tmp_path, "tokenizer_config.json", {"pad_token": "[PAD]"}))
    assert tokenizer.encode("Hello") == Tokenizer.load(str(GOLDEN)).encode("Hello")
    with pytest.raises(RowError, match=r"'\[PAD\]', a token that tokenizer.model lacks"):
        tokenizer.encode("a[PAD]")


def test_a_file_named_itself_is_taken_alone(tmp_path: Path) -> None:
    url = folder(tmp_path, "added_tokens.json", {START: 1024})
    assert Tokenizer.load(f"{url}/tokenizer.model").vocab_size == 1024


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"added_tokens": [3], "eos_token": 1, "a": "b"}'])
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, name: str, content: str) -> None:
    if name == "tokenizer_config.json" and content.endswith("}"):
        content = '{"added_tokens_decoder": {"x": 3}}'
    with pytest.raises(WeightsError, match=rf"{tmp_path}/{name}: not "):
        Tokenizer.load(folder(tmp_path, name, content))


def test_a_tokenizer_larger_than_the_model_is_refused_with_both_sizes() -> None:
    tokenizer = Tokenizer.load(str(GOLDEN))
    tokenizer.require_within(1024)
    with pytest.raises(WeightsError, match=r"has 1,024 tokens, the model only 1,000"):
        tokenizer.require_within(1000)
