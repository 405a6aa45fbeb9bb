"""Small files of the kind `tokenizer.json`, made by the `tokenizers` library as for Gemma."""

import json
from pathlib import Path
from typing import Any

import sentencepiece as spm
import tokenizers
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from rgpipeline.text.added_tokens import JsonFile
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.text.tokenizer_json import TokenizerJson

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
TURNS = ["<start_of_turn>", "<end_of_turn>"]
ROLES = {f"{role[1:-1]}_token": role for role in SPECIAL}
TEXTS = [
    "In the beginning God created the heaven and the earth.",
    "  def main(argv):\n    return 0  # naïve café\n\n\n",
    "日本語 and 中文, 🎉 👩‍👩‍👧, ་བོད་, 𒀀 and \u200b nothing",
    "tabs\tand\r\nlines; 1611 1,234.5 a<end_of_turn>\nmodel",
]


def trained(size: int = 700) -> tokenizers.Tokenizer:
    """Trained on `TEXTS`: BPE with byte fallback, Gemma's normalizer, decoder and specials."""
    plain = in_gemmas_style(models.BPE(unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # no token is two words
    trainer = trainers.BpeTrainer(vocab_size=size - 256, show_progress=False)
    plain.train_from_iterator(TEXTS[:2] * 20 + TEXTS[3:], trainer)
    learnt = json.loads(plain.to_str())["model"]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].get)
    names = [*SPECIAL, *TURNS, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*names, *pieces, "▁"]))}
    merges = [tuple(merge) for merge in learnt["merges"]]
    return in_gemmas_style(bpe(vocab, merges))


def bpe(vocab: dict[str, int], merges: list[Any]) -> models.BPE:
    return models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def in_gemmas_style(model: models.Model) -> tokenizers.Tokenizer:
    """`model` with the rest of Gemma's tokenizer.json; BOS is put first by the file, too."""
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    known = [name for name in SPECIAL + TURNS if made.token_to_id(name) is not None]
    made.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in known])
    if "<bos>" in known:
        bos = made.token_to_id("<bos>")
        made.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", bos)]
        )
    return made


def converted(model: bytes) -> tokenizers.Tokenizer:
    """A tokenizer.json with the pieces of a tokenizer.model, converted as transformers does."""
    proto = ModelProto.FromString(model)
    pieces = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    if proto.trainer_spec.model_type == proto.trainer_spec.UNIGRAM:
        scored = [(piece.piece, piece.score) for piece in proto.pieces]
        unknown = spm.SentencePieceProcessor(model_proto=model).unk_id()
        return in_gemmas_style(models.Unigram(scored, unknown, byte_fallback=True))
    normal = {p.piece: p.score for p in proto.pieces if p.type == p.NORMAL}
    merges = []
    for piece, score in normal.items():
        cuts = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        known = [(left, right) for left, right in cuts if left in normal and right in normal]
        known.sort(key=lambda cut: (pieces[cut[0]], pieces[cut[1]]))
        merges += [(score, left, right) for left, right in known]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    made = in_gemmas_style(bpe(pieces, [(left, right) for _, left, right in merges]))
    own = [p.piece for p in proto.pieces if p.type == p.USER_DEFINED and p.piece not in TURNS]
    made.add_tokens([tokenizers.AddedToken(piece, normalized=False) for piece in own])
    return made


def opened(made: tokenizers.Tokenizer | dict[str, Any], **named: str) -> Tokenizer:
    """Our tokenizer of that file; `named` are roles, by default Gemma's."""
    spec = made if isinstance(made, dict) else json.loads(made.to_str())
    file = JsonFile("tokenizer.json", json.dumps(spec).encode(), spec)
    return Tokenizer(TokenizerJson(file, named or ROLES))


def write(folder: Path, made: tokenizers.Tokenizer, **config: Any) -> str:
    """The two files that transformers 5's `save_pretrained` writes of a tokenizer."""
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    config = {"backend": "tokenizers", "tokenizer_class": "GemmaTokenizer", **ROLES, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


def library_ids(library: tokenizers.Tokenizer, text: str) -> list[int]:
    return library.encode(text, add_special_tokens=False).ids
