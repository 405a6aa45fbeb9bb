"""Weights in stores: read as from a disk, asked again when a store fails, copied with care."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from rgpipeline.errors import StoreError, WeightsError
from rgpipeline.model.weights.loading import load
from rgpipeline.storage import folders
from rgpipeline.storage import local_copy as copies
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.local_copy import local_copy
from rgpipeline.storage.retries import Retry
from tests.model import hf_folder
from tests.model.golden import FOLDER
from tests.model.test_checkpoint import CONFIG
from tests.sources import source
from tests.storage.flaky_store import FlakyStore, flaky_store
from tests.storage.servers import Place

URL = "flaky://bucket/weights"
CONTENT = bytes(range(256)) * 400
PIECE = 10_000
PIECES = -(-len(CONTENT) // PIECE)
SOON = Retry(first_s=0.0, longest_s=0.0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FlakyStore]]:
    """A folder with one file of several pieces."""
    monkeypatch.setattr(folders, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(folders, "STREAMS", 1)
    monkeypatch.setattr(copies, "STREAMS", 1)
    with flaky_store() as store:
        store().pipe_file("/bucket/weights/sub/big", CONTENT)
        yield store


def copied(cache: Path) -> bytes:
    folder = Folder(URL)
    return (local_copy(folder, folder.tree(), cache).local / "sub" / "big").read_bytes()


@pytest.mark.parametrize("kind", ["moto", "gcs"])
def test_sharded_weights_in_a_store_are_the_same_model(
    tmp_path: Path, new_place: Callable[[str], Place], kind: str
) -> None:
    tensors = hf_folder.random_tensors(CONFIG, 0, np.float32)
    folder = hf_folder.write(tmp_path / "w", CONFIG, tensors, shards=3)
    place = new_place(kind).under("weights")
    upload(folder, place)
    _, expected, _ = load(source(folder))
    for cache in (None, tmp_path / "cache"):
        config, params, _ = load(
            source(place.url, "float32", options=place.storage_options), cache=cache
        )
        assert config == CONFIG
        jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_an_official_checkpoint_in_a_store_is_the_same_model(
    tmp_path: Path, new_place: Callable[[str], Place]
) -> None:
    place = new_place("moto")
    upload(FOLDER / "a" / "official", place.under("official"))
    upload(FOLDER / "a" / "hf", place.under("hf"))
    url = place.under("official").url
    config, params, _ = load(source(url, "float32", options=place.storage_options), cache=tmp_path)
    local_config, expected, _ = load(source(FOLDER / "a" / "official", "float32"))
    assert config == local_config
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_no_such_folder_in_a_store(new_place: Callable[[str], Place]) -> None:
    place = new_place("moto").under("gone")
    with pytest.raises(WeightsError, match=f"{place.url}: no such folder"):
        load(source(place.url, options=place.storage_options))


def test_a_store_that_fails_for_a_while_is_asked_again(store: type[FlakyStore]) -> None:
    store.faults = iter([OSError("busy")] * 4)
    found = Folder(URL, retry=SOON).read_range("sub/big", 5, 25_000)
    assert found.tobytes() == CONTENT[5:25_000]


def test_a_range_that_comes_short_is_asked_again(
    store: type[FlakyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cuts = FlakyStore.cat_file, iter([100, 3])

    def short(self: FlakyStore, path: str, **kwargs: Any) -> bytes:
        return whole(self, path, **kwargs)[: next(cuts, None)]

    monkeypatch.setattr(FlakyStore, "cat_file", short)
    assert Folder(URL, retry=SOON).read_range("sub/big", 0, 200).tobytes() == CONTENT[:200]


def test_a_store_that_keeps_failing_is_no_fault_of_the_weights(store: type[FlakyStore]) -> None:
    store.faults = repeat(OSError("down"))
    with pytest.raises(StoreError, match=rf"{URL}/sub/big has failed for 1 s \(OSError: down\)"):
        Folder(URL, retry=Retry(deadline_s=1.0)).read_range("sub/big", 0, 10)


def test_a_refusal_is_not_asked_again(store: type[FlakyStore]) -> None:
    store.faults = iter([PermissionError("no")])
    with pytest.raises(WeightsError, match=r"sub/big: not allowed \(no\)"):
        Folder(URL).read_range("sub/big", 0, 10)


def test_a_copy_is_made_once(store: type[FlakyStore], tmp_path: Path) -> None:
    assert copied(tmp_path) == copied(tmp_path) == CONTENT
    assert len(store.ranges) == PIECES


@pytest.mark.parametrize("after", range(PIECES))
def test_an_interrupted_copy_goes_on_where_it_stopped(
    store: type[FlakyStore], tmp_path: Path, after: int
) -> None:
    store.faults = chain(repeat(None, after), [PermissionError("no")])
    with pytest.raises(WeightsError):
        copied(tmp_path)
    store.faults = iter(())
    assert copied(tmp_path) == CONTENT
    assert len(store.ranges) == len(set(store.ranges)) == PIECES


def test_a_journal_cut_within_a_line_loses_that_line_only(
    store: type[FlakyStore], tmp_path: Path
) -> None:
    store.faults = chain(repeat(None, 5), [PermissionError("no")])
    with pytest.raises(WeightsError):
        copied(tmp_path)
    (journal,) = tmp_path.glob("*/journal/*")
    journal.write_text(journal.read_text()[:-2])
    store.faults = iter(())
    assert copied(tmp_path) == CONTENT
    assert len(store.ranges) == PIECES + 1


def test_a_changed_original_is_copied_again(store: type[FlakyStore], tmp_path: Path) -> None:
    copied(tmp_path)
    store().pipe_file("/bucket/weights/sub/big", CONTENT[::-1])
    assert copied(tmp_path) == CONTENT[::-1]


def test_a_damaged_copy_is_made_again(store: type[FlakyStore], tmp_path: Path) -> None:
    copied(tmp_path)
    (copy,) = tmp_path.glob("*/files/sub/big")
    copy.write_bytes(CONTENT[:-1])
    assert copied(tmp_path) == CONTENT


def test_an_original_that_changes_meanwhile_is_noticed(
    store: type[FlakyStore], tmp_path: Path
) -> None:
    folder = Folder(URL)
    files = folder.tree()
    store().pipe_file("/bucket/weights/sub/big", CONTENT[::-1])
    with pytest.raises(WeightsError, match="sub/big was changed while it was copied"):
        local_copy(folder, files, tmp_path)
    assert copied(tmp_path) == CONTENT[::-1]


def test_a_copy_is_checked_by_the_stores_digest(store: type[FlakyStore], tmp_path: Path) -> None:
    store.facts = {"lfs": {"sha256": hashlib.sha256(b"other").hexdigest()}}
    with pytest.raises(StoreError, match=r"sub/big: its copy has sha256 .* the store says"):
        copied(tmp_path)
    store.facts = {"lfs": {"sha256": hashlib.sha256(CONTENT).hexdigest()}}
    assert copied(tmp_path) == CONTENT


def test_a_disk_too_small_is_noticed_first(
    store: type[FlakyStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(WeightsError, match=r"the disk has 0\.0 GB left; .* workers\.cache"):
        copied(tmp_path)
    assert not store.ranges


def test_two_processes_make_one_copy(store: type[FlakyStore], tmp_path: Path) -> None:
    results: list[bytes] = []
    both = [Thread(target=lambda: results.append(copied(tmp_path))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert results == [CONTENT, CONTENT]
    assert len(store.ranges) == PIECES


def upload(folder: Path, place: Place) -> None:
    fs, path = place.filesystem()
    for file in filter(Path.is_file, folder.rglob("*")):
        fs.pipe_file(f"{path}/{file.relative_to(folder)}", file.read_bytes())
