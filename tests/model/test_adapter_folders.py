"""Where an adapter's base and its tokenizer are looked for, and reading them from a store."""

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rgpipeline.model.param_tree import flatten
from rgpipeline.model.weights.loading import load
from rgpipeline.model.weights.model_source import resolve_source, with_base
from rgpipeline.spec import ModelSpec
from tests.model.golden import FOLDER
from tests.sources import source

PEFT = FOLDER / "peft"
BASE = str(PEFT / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PEFT / "plain", tmp_path / "adapter"))


def names(adapter: Path, base: str, revision: str | None = None) -> None:
    path = adapter / "adapter_config.json"
    fields = json.loads(path.read_text()) | {"base_model_name_or_path": base, "revision": revision}
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("base", "revision", "address"),
    [
        ("google/recurrentgemma-2b", None, "hf://google/recurrentgemma-2b"),
        ("google/recurrentgemma-2b", "0123abc", "hf://google/recurrentgemma-2b@0123abc"),
        ("gs://models/base", None, "gs://models/base"),
        (BASE, None, BASE),
    ],
)
def test_the_base_that_an_adapter_names(
    adapter: Path, base: str, revision: str | None, address: str
) -> None:
    names(adapter, base, revision)
    assert with_base(ModelSpec(weights=str(adapter))).base == address
    found = source(adapter)
    assert (found.weights, found.adapter, found.tokenizer) == (address, str(adapter), address)


def test_a_relative_base_is_made_absolute(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(adapter, "base")
    monkeypatch.chdir(PEFT)
    assert with_base(ModelSpec(weights=str(adapter))).base == BASE


def test_other_weights_have_no_base() -> None:
    for model in (
        ModelSpec(weights=BASE),
        ModelSpec(weights="demo"),
        ModelSpec(weights="/nowhere"),
        ModelSpec(weights=BASE, adapter=str(PEFT / "plain")),
    ):
        assert with_base(model) == model
        assert resolve_source(model).tokenizer == model.weights


def test_the_tokenizer_is_the_adapters_own_before_the_bases(adapter: Path) -> None:
    assert source(adapter, base=BASE).tokenizer == BASE
    (adapter / "tokenizer.model").write_bytes(b"")
    assert source(adapter, base=BASE).tokenizer == str(adapter)
    assert source(adapter, base=BASE, tokenizer="/its/own").tokenizer == "/its/own"


@pytest.mark.parametrize("case", ["dora", "embed_dora", "save_head"])
@pytest.mark.parametrize("copied", [True, False])
def test_base_and_adapter_may_lie_in_a_store(case: str, copied: bool, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for folder in ("base", case):
        for path in (PEFT / folder).iterdir():
            store.pipe_file(f"/adapters/{folder}/{path.name}", path.read_bytes())
    cache = tmp_path / "cache" if copied else None
    _, params, _ = load(
        source("memory://adapters/base", "float32", adapter=f"memory://adapters/{case}"),
        cache=cache,
    )
    ours, theirs = (
        flatten(params),
        flatten(load(source(BASE, "float32", adapter=str(PEFT / case)))[1]),
    )
    assert all(np.array_equal(np.asarray(ours[k]), np.asarray(theirs[k])) for k in theirs)
