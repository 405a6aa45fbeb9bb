"""hf:// folders: read as any other, with the token that the repository asks for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from rgpipeline.errors import WeightsError
from rgpipeline.model.weights.checkpoint import read_config
from rgpipeline.model.weights.loading import load
from rgpipeline.storage.folders import Folder
from rgpipeline.text.template_files import templates_in
from rgpipeline.text.tokenizer import Tokenizer
from tests.model import hf_folder
from tests.model.fake_hub import BRANCH, COMMIT, REPO, hub
from tests.model.golden import FOLDER
from tests.model.test_checkpoint import CONFIG
from tests.sources import source

URL = f"hf://{REPO}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = hf_folder.random_tensors(CONFIG, 0, np.float32)
    folder = hf_folder.write(tmp_path_factory.mktemp("repo"), CONFIG, tensors, shards=2)
    tokenizer = (FOLDER / "tokenizer" / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(tokenizer)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return folder


@pytest.fixture(scope="module")
def options(folder: Path) -> Iterator[dict[str, Any]]:
    with hub(folder, "secret") as address:
        yield {"hf": {"endpoint": address, "token": "secret"}}


@pytest.mark.parametrize("cached", [False, True])
def test_a_repository_is_the_same_model(
    folder: Path, options: dict[str, Any], tmp_path: Path, cached: bool
) -> None:
    cache = tmp_path if cached else None
    config, params, _ = load(source(URL, "float32", options=options), cache=cache)
    assert config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, params, load(source(folder))[1])


def test_the_hubs_digests_are_known(options: dict[str, Any]) -> None:
    folder = Folder(URL, options)
    digest = folder.file("model-00001-of-00002.safetensors").digest
    assert digest is not None
    assert digest[0] == "sha256"


def test_tokenizer_and_chat_template_are_found(options: dict[str, Any]) -> None:
    assert Tokenizer.load(URL, options).vocab_size == 1024
    assert templates_in(URL, options) == {"default": "{{ messages[0].content }}"}


def test_a_repository_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with hub(tmp_path, "secret") as address:
        options = {"hf": {"endpoint": address, "token": "secret"}}
        assert Tokenizer.find(URL, options) is None


def test_no_such_repository(options: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="hf://owner/other: no such folder on the Hub, or a"):
        load(source("hf://owner/other", options=options))


def test_a_wrong_token_is_no_missing_folder(options: dict[str, Any]) -> None:
    wrong = {"hf": {**options["hf"], "token": "wrong"}}
    with pytest.raises(WeightsError, match=r"hf://owner/model: not allowed .*credentials"):
        load(source(URL, options=wrong))


@pytest.mark.parametrize("revision", ["main", COMMIT, BRANCH])
def test_a_revision_may_be_a_branch_or_a_commit(options: dict[str, Any], revision: str) -> None:
    assert read_config(source(f"{URL}@{revision}", options=options)) == CONFIG
    assert source(f"{URL}@{revision}", options=options).tokenizer == f"{URL}@{revision}"


def test_no_such_revision(options: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match=r"model@feature/x: no such folder .* revision .*%2F"):
        read_config(source(f"{URL}@feature/x", options=options))


@pytest.mark.parametrize(
    "read",
    [lambda options: load(source(URL, options=options)), lambda o: Tokenizer.load(URL, o)],
    ids=["weights", "tokenizer"],
)
def test_a_gated_model_says_what_to_accept_where_and_what_to_set(
    folder: Path, read: Callable[[dict[str, Any]], object]
) -> None:
    with hub(folder, "secret", gated=True) as address, pytest.raises(WeightsError) as raised:
        read({"hf": {"endpoint": address, "token": False}})
    told = str(raised.value)
    assert "a gated model: accept its licence on https://huggingface.co/owner/model" in told
    assert "set HF_TOKEN (for the driver and every worker)" in told
    assert "\n" not in told
