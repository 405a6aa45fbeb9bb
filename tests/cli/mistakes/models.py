"""Mistakes in the weights, the tokenizer, and what is asked of them."""

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
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


def tensors(change: Callable[[dict[str, Any]], object], **fields: Any) -> Callable[[Bench], None]:
    """The demo's weights with other tensors, and `config.json` with other fields."""

    def spoil(copy: Path) -> None:
        path = copy / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        held = load_file(copy / "model.safetensors")
        change(held)
        save_file(held, copy / "model.safetensors")

    return folder(spoil)


def chats(bench: Bench) -> Bench:
    """Messages in place of prompts."""
    bench.write("p.jsonl", '{"chat": [{"role": "user", "content": "Hello"}]}\n')
    return bench.set("input.path", "p.jsonl").set("input.columns", {"messages": "chat"})


def _rename(held: dict[str, Any]) -> None:
    held["model.nonsense.weight"] = held.pop(sorted(held)[0])


def _cut(held: dict[str, Any]) -> None:
    name = next(name for name in held if held[name].ndim == 2)
    held[name] = held[name][:-1].copy()


def _wrap(held: dict[str, Any]) -> None:
    for name in list(held):
        held[f"_orig_mod.{name}"] = held.pop(name)


def _quantize(held: dict[str, Any]) -> None:
    name = next(name for name in held if name.endswith("up_proj.weight"))
    held[name] = np.zeros((8, 1), np.uint8)
    held[f"{name}.absmax"] = np.zeros(8, np.float32)


def _cached(copy: Path) -> None:
    snapshot = copy / "models--google--recurrentgemma-2b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        (copy / name).rename(snapshot / name)


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
    Mistake(
        "an untied model without a head",
        config(tie_word_embeddings=False),
        ("missing tensor lm_head.weight",),
    ),
    Mistake(
        "names under another prefix",
        tensors(_wrap),
        ("_orig_mod.model.embed_tokens.weight", "save model._orig_mod"),
    ),
    Mistake(
        "weights that are quantized already",
        tensors(_quantize),
        ("U8", "quantized by bitsandbytes", "model.dequantize()", "model.quantize: int8"),
    ),
    Mistake(
        "a quantization in config.json",
        config(quantization_config={"quant_method": "gptq"}),
        ("config.json: quantization_config", "quantized by gptq"),
    ),
    Mistake(
        "key and value heads that don't divide the others",
        config(num_key_value_heads=3),
        ("config.json", "num_key_value_heads 3 does not divide 4 heads"),
    ),
    Mistake(
        "an adapter beside a model",
        folder(lambda copy: (copy / "adapter_config.json").write_text("{}")),
        ("an adapter (adapter_config.json) lies beside the model", "as model.adapter, too"),
    ),
    Mistake(
        "a file of the weights",
        lambda b: (
            folder(lambda copy: None)(b) or b.set("model.weights", "weights/model.safetensors")
        ),
        ("weights/model.safetensors: is a file; give the folder that holds it",),
    ),
    Mistake(
        "the Hub's cache",
        folder(_cached),
        ("the Hub's cache", "/models--google--recurrentgemma-2b/snapshots/0123"),
    ),
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
        "a tokenizer.json that is none",
        lambda b: (
            b.set("model.tokenizer", "t/tokenizer.json") and b.write("t/tokenizer.json", "{}")
        ),
        ("t/tokenizer.json", "has no tokenizer in it", "model.tokenizer"),
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
        "a chat template without chats",
        setting("model.chat_template", "{{ messages }}"),
        ("model.chat_template: is for chats", "input.columns.messages"),
    ),
    Mistake(
        "a chat template that isn't there",
        lambda b: chats(b).set("model.chat_template", "t.jinja"),
        ("t.jinja: no chat template there", "model.chat_template", "the template's own text"),
    ),
    Mistake(
        "a chat template with a fault",
        lambda b: chats(b).set("model.chat_template", "{% if %}"),
        ("model.chat_template: the chat template has a fault in line 1",),
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
