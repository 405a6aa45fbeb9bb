"""Mistakes in the weights, the tokenizer, and what is asked of them."""

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from tests.cli.mistakes.case import Bench, Mistake, setting

DEMO = Path(str(files("rgpipeline") / "demo"))
GOLDEN = Path(__file__).parents[2] / "golden"


def folder(spoil: Callable[[Path], object]) -> Callable[[Bench], None]:
    """The demo's weights, spoilt."""

    def make(bench: Bench) -> None:
        copy = bench.folder / "weights"
        copy.mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.model"):
            shutil.copy(DEMO / name, copy)
        bench.set("model.weights", "weights")
        spoil(copy)

    return make


def config(**fields: Any) -> Callable[[Bench], None]:
    def spoil(copy: Path) -> None:
        path = copy / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return folder(spoil)


def tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[Bench], None]:
    def spoil(copy: Path) -> None:
        held = load_file(copy / "model.safetensors")
        change(held)
        save_file(held, copy / "model.safetensors")

    return folder(spoil)


def _rename(held: dict[str, Any]) -> None:
    held["model.nonsense.weight"] = held.pop(sorted(held)[0])


def _cut(held: dict[str, Any]) -> None:
    name = next(name for name in held if held[name].ndim == 2)
    held[name] = held[name][:-1].copy()


def _truncate(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


CASES = [
    Mistake(
        "no such weights",
        setting("model.weights", "wieghts"),
        ("wieghts", "no such folder", "or demo"),
    ),
    Mistake(
        "a name from a hub",
        setting("model.weights", "google/recurrentgemma-2b"),
        ("google/recurrentgemma-2b", "hf://OWNER/NAME"),
    ),
    Mistake(
        "a folder of something else",
        lambda b: b.set("model.weights", "w") and b.write("w/readme.txt", "x"),
        ("w", "config.json"),
    ),
    Mistake(
        "no config.json",
        folder(lambda copy: (copy / "config.json").unlink()),
        ("weights", "no config.json"),
    ),
    Mistake(
        "a config.json that isn't JSON",
        folder(lambda copy: (copy / "config.json").write_text("{")),
        ("weights/config.json",),
    ),
    Mistake("another kind of model", config(model_type="llama"), ("config.json", "'llama'")),
    Mistake(
        "a field of a wrong type",
        config(num_hidden_layers="six"),
        ("config.json", "num_hidden_layers"),
    ),
    Mistake("a contradiction", config(rope_theta=5.0), ("config.json", "rope_theta", "10000")),
    Mistake("a tensor missing", tensors(_rename), ("missing tensor", "unexpected tensor")),
    Mistake("a tensor misshapen", tensors(_cut), ("expected shape", "found")),
    Mistake("truncated weights", folder(_truncate), ("model.safetensors",)),
    Mistake(
        "weights that are none",
        folder(lambda copy: (copy / "model.safetensors").write_bytes(b"hello there")),
        ("model.safetensors",),
    ),
    Mistake(
        "a Git LFS pointer",
        folder(
            lambda copy: (copy / "model.safetensors").write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
            )
        ),
        ("model.safetensors", "LFS"),
    ),
    Mistake(
        "no tokenizer",
        folder(lambda copy: (copy / "tokenizer.model").unlink()),
        ("tokenizer.model", "model.tokenizer"),
    ),
    Mistake(
        "a tokenizer that is none",
        folder(lambda copy: (copy / "tokenizer.model").write_bytes(b"hello")),
        ("weights", "sentencepiece"),
    ),
    Mistake(
        "a tokenizer.json in place of a tokenizer.model",
        lambda b: (
            b.set("model.tokenizer", "t/tokenizer.json") and b.write("t/tokenizer.json", "{}")
        ),
        ("t/tokenizer.json", "not a sentencepiece model", "model.tokenizer"),
    ),
    Mistake(
        "tokens added beside tokenizer.model",
        folder(lambda copy: (copy / "added_tokens.json").write_text('{"<|im_start|>": 2048}')),
        ("weights/added_tokens.json", "'<|im_start|>' (2048)", "model.tokenizer"),
    ),
    Mistake(
        "a tokenizer larger than the model",
        lambda b: b.set("model.weights", str(GOLDEN / "a" / "hf")).set(
            "model.tokenizer", str(DEMO)
        ),
        ("2,048 tokens", "the model only 256", "model.tokenizer"),
    ),
    Mistake(
        "a tokenizer elsewhere, mistyped",
        setting("model.tokenizer", "tok/tokenizer.model"),
        ("tok/tokenizer.model", "model.tokenizer"),
    ),
    Mistake(
        "a stop id the model hasn't",
        setting("sampling.stop_ids", [99999]),
        ("sampling.stop_ids", "99999 is no token id"),
    ),
    Mistake(
        "a bias on an id the model hasn't",
        setting("sampling.logit_bias", {-1: 5.0}),
        ("sampling.logit_bias", "-1"),
    ),
]
