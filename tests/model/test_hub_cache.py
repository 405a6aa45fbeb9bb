"""The Hub's cache on a disk: a model's folder in it, a snapshot, and addresses read offline."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import jax
import numpy as np
import pytest

from rgpipeline.errors import WeightsError
from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.loading import load
from rgpipeline.plan.recorded_snapshots import recorded_source
from rgpipeline.spec import Job, ModelSpec
from rgpipeline.storage.filesystems import open_for_reading
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import open_store
from rgpipeline.text.tokenizer import Tokenizer
from tests.model.golden import FOLDER
from tests.published import job_over
from tests.sources import source

COMMIT, OTHER = "1" * 40, "2" * 40
BASE = FOLDER / "peft" / "base"


def put(hub: Path, folder: Path, commit: str = COMMIT, refs: tuple[str, ...] = ("main",)) -> Path:
    """Puts a folder into the cache as the Hub's client does: blobs, and links to them."""
    model = hub / "models--google--recurrentgemma-2b"
    (model / "blobs").mkdir(parents=True, exist_ok=True)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        link = model / "snapshots" / commit / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = model / "blobs" / f"{commit[:4]}-{len(list((model / 'blobs').iterdir()))}"
        shutil.copy(path, blob)
        up = "../" * (len(link.relative_to(model).parts) - 1)
        link.symlink_to(f"{up}blobs/{blob.name}")
    for ref in refs:
        (model / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (model / "refs" / ref).write_text(commit)
    return model


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def offline(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with HF_HUB_OFFLINE=1, which is read when the client is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))


@pytest.fixture
def model(hub: Path) -> Path:
    """Two snapshots, of which main is the base of the adapters; its tokenizer is there, too."""
    put(hub, FOLDER / "a" / "hf", OTHER, ("feature/x",))
    folder = shutil.copytree(BASE, hub.parent / "whole")
    shutil.copy(FOLDER / "tokenizer" / "tokenizer.model", folder)
    return put(hub, folder)


def test_a_models_folder_is_its_main_snapshot(model: Path) -> None:
    found = source(model)
    assert found.weights == found.tokenizer == str(model / "snapshots" / COMMIT)
    _, params, _ = load(found)
    jax.tree.map(np.testing.assert_array_equal, params, load(source(BASE))[1])


def test_a_snapshot_itself_is_taken(model: Path) -> None:
    assert open_checkpoint(source(model / "snapshots" / OTHER)).config.vocab_size == 256


def test_without_a_main_the_only_snapshot_is_taken(hub: Path) -> None:
    model = put(hub, BASE, refs=())
    assert source(model).weights == str(model / "snapshots" / COMMIT)


def test_of_several_snapshots_without_a_main_one_must_be_named(hub: Path) -> None:
    put(hub, BASE, refs=())
    model = put(hub, FOLDER / "a" / "hf", OTHER, ())
    with pytest.raises(WeightsError, match=rf"give {model}/snapshots/(1+|2+) or {model}/snap"):
        open_checkpoint(source(model))


def test_base_and_adapter_may_be_folders_of_the_cache(model: Path) -> None:
    adapter = str(FOLDER / "peft" / "plain")
    snapshot = str(model / "snapshots" / COMMIT)
    assert source(adapter, base=str(model)).weights == snapshot
    assert source(model, adapter=adapter).weights == snapshot


def test_an_official_checkpoint_in_the_cache_is_read_through_its_links(hub: Path) -> None:
    folder = hub.parent / "release"
    shutil.copytree(FOLDER / "a" / "official", folder / "2b")
    shutil.copy(FOLDER / "a" / "hf" / "config.json", folder)
    shutil.copy(FOLDER / "tokenizer" / "tokenizer.model", folder)
    model = put(hub, folder)
    found = source(model)
    assert found.tokenizer == str(model / "snapshots" / COMMIT)
    _, params, _ = load(found)
    jax.tree.map(np.testing.assert_array_equal, params, load(source(folder))[1])


@pytest.mark.usefixtures("offline", "model")
@pytest.mark.parametrize(
    ("revision", "vocab_size"),
    [("", 40), ("@main", 40), (f"@{COMMIT}", 40), (f"@{OTHER}", 256), ("@feature%2Fx", 256)],
)
def test_offline_an_address_is_read_from_the_cache(revision: str, vocab_size: int) -> None:
    url = f"hf://google/recurrentgemma-2b{revision}"
    assert open_checkpoint(source(url)).config.vocab_size == vocab_size


@pytest.mark.usefixtures("offline", "model")
def test_offline_the_tokenizer_comes_from_the_cache_too() -> None:
    url = "hf://google/recurrentgemma-2b"
    check_reachable([url], None)
    assert Tokenizer.load(url).vocab_size == 1024
    assert Tokenizer.find(f"{url}@feature%2Fx") is None


@pytest.mark.usefixtures("offline", "model")
@pytest.mark.parametrize("name", ["google/recurrentgemma-9b", "google/recurrentgemma-2b@v2"])
def test_offline_what_the_cache_lacks_is_named_with_the_way_to_get_it(hub: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=rf"hf://{name}: the Hub's cache \({hub}\) does not"):
        source(f"hf://{name}")


@pytest.mark.usefixtures("offline", "model")
def test_offline_an_adapters_base_is_read_from_the_cache(tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(FOLDER / "peft" / "plain", tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "google/recurrentgemma-2b"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert open_checkpoint(source(adapter)).config.vocab_size == 40


@pytest.mark.usefixtures("offline")
def test_other_stores_are_read_as_ever() -> None:
    assert open_for_reading("memory://x", None)[0].protocol == "memory"


@pytest.fixture
def job(model: Path, tmp_path: Path) -> Job:
    return job_over(tmp_path, [{"prompt": "a"}], model={"weights": str(model)})


def test_a_job_goes_on_with_the_snapshot_that_it_began_with(job: Job, model: Path) -> None:
    store = open_store(job.output.path, {})
    assert recorded_source(job, store).weights == str(model / "snapshots" / COMMIT)
    (model / "refs" / "main").write_text(OTHER)
    again = recorded_source(job, store)
    assert again.weights == again.tokenizer == str(model / "snapshots" / COMMIT)
    assert source(model).weights == str(model / "snapshots" / OTHER)


def test_a_snapshot_that_a_job_began_with_and_that_is_gone_is_named(job: Job, model: Path) -> None:
    store = open_store(job.output.path, {})
    recorded_source(job, store)
    (model / "refs" / "main").write_text(OTHER)
    shutil.rmtree(model / "snapshots" / COMMIT)
    with pytest.raises(WeightsError, match=f"snapshot {COMMIT}, with which .*--revision {COMMIT}"):
        recorded_source(job, store)


@pytest.mark.usefixtures("offline")
def test_offline_a_job_goes_on_with_the_same_commit(job: Job, model: Path) -> None:
    job = job.model_copy(update={"model": ModelSpec(weights="hf://google/recurrentgemma-2b")})
    store = open_store(job.output.path, {})
    assert recorded_source(job, store).weights == f"hf://google/recurrentgemma-2b@{COMMIT}"
    (model / "refs" / "main").write_text(OTHER)
    assert open_checkpoint(recorded_source(job, store)).config.vocab_size == 40


def test_a_model_elsewhere_is_not_recorded(tmp_path: Path) -> None:
    job = job_over(tmp_path, [{"prompt": "a"}], model={"weights": str(BASE)})
    store = open_store(job.output.path, {})
    assert recorded_source(job, store).weights == str(BASE)
    assert store.list("_rgp") == []
