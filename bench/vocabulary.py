"""A tokenizer.json with as many pieces as a model has tokens: words that nobody has learnt."""

import json
import random
from pathlib import Path
from typing import Any

_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
_LETTERS = "etaoinshrdlcumwfgypbvkxjqz"
_SIGNS = '0123456789{}[]":,.-_ \n'


def write_tokenizer(folder: Path, size: int, seed: int = 0) -> None:
    """Writes tokenizer.json into a model's folder, unless it is there."""
    path = folder / "tokenizer.json"
    if not path.exists():
        path.write_text(json.dumps(_tokenizer(size, random.Random(seed))))


def _tokenizer(size: int, chance: random.Random) -> dict[str, Any]:
    pieces = dict.fromkeys([*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *_SIGNS])
    pieces.pop(" ")
    pieces["▁"] = None
    while len(pieces) < size:
        of, most = (_SIGNS, 3) if chance.random() < 0.1 else (_LETTERS, 9)
        word = "".join(chance.choices(of, k=chance.randint(1, most)))
        pieces[("▁" if chance.random() < 0.5 else "") + word.replace(" ", "▁")] = None
    added = [
        {"id": index, "content": name, "special": True, "normalized": False}
        | dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
        for index, name in enumerate(_SPECIAL)
    ]
    vocab = [[piece, -float(len(pieces)) / (1 + len(piece))] for piece in pieces]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": spaces,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": True, "vocab": vocab},
    }
