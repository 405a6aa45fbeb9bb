"""Stores that fail: what passes is tried again and counted once, what lasts is explained."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rgpipeline.storage.store as store_module
from rgpipeline.errors import OutputError, StoreError
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore, open_store
from tests.io.schedules import MemoryStore
from tests.ports import free_ports
from tests.storage.proxy import Fault, FaultyProxy, faulty_proxy
from tests.storage.seaweed import SECRET, Seaweed, seaweed
from tests.storage.servers import Place

SOON = Retry(deadline_s=120.0, first_s=0.01, longest_s=0.1)


@pytest.fixture
def seaweed_place(new_place: Callable[[str], Place]) -> Place:
    return new_place("seaweedfs")


@pytest.fixture
def proxy(seaweed_server: Seaweed) -> Iterator[FaultyProxy]:
    with faulty_proxy(seaweed_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultyProxy, seaweed_place: Place) -> RetryingStore:
    return open_store(seaweed_place.url, {"s3": {"endpoint_url": proxy.endpoint}}, SOON)


def first(method: str, *faults: Fault) -> Callable[[str, str], Fault]:
    """The first requests of a method suffer these, one each."""
    left = list(faults)
    return lambda found, path: left.pop(0) if found == method and left else "none"


@pytest.mark.parametrize("fault", ["lost request", "lost reply", "503", "500 after"])
def test_a_put_whose_reply_failed_creates_once(
    store: RetryingStore, proxy: FaultyProxy, fault: Fault
) -> None:
    proxy.plan = first("PUT", fault, fault)
    assert store.create("a", b"mine")
    assert proxy.faults == [fault, fault]
    proxy.plan = first("PUT", fault)
    assert not store.create("a", b"another's")
    assert store.read("a") == b"mine"


@pytest.mark.parametrize("fault", ["cut reply", "lost reply", "503"])
def test_a_read_that_failed_half_way_is_read_whole(
    store: RetryingStore, proxy: FaultyProxy, fault: Fault
) -> None:
    data = bytes(range(256)) * 4096
    store.create("a", data)
    proxy.plan = first("GET", fault, fault)
    assert store.read("a") == data
    proxy.plan = first("GET", fault, fault)
    assert store.read_tail("a", 70_000) == data[-70_000:]
    assert proxy.faults == [fault] * 4


def test_a_list_that_failed_is_no_empty_folder(store: RetryingStore, proxy: FaultyProxy) -> None:
    store.create("a", b"x")
    proxy.plan = first("GET", "503", "lost reply", "cut reply")
    assert store.list() == ["a"]


def test_a_store_that_is_away_is_not_one_without_the_object() -> None:
    options = {
        "endpoint_url": f"http://127.0.0.1:{free_ports(1)[0]}",
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
    }
    store = open_store("s3://b/out", {"s3": options}, Retry(deadline_s=0.0))
    with pytest.raises(StoreError, match=r"looking for s3://b/out/_SUCCESS has failed .* run the"):
        store.exists("_SUCCESS")


def test_whoever_waits_for_a_store_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_SLOW_S", 0.0)
    said: list[str] = []

    class Away(MemoryStore):
        def read(self, name: str) -> bytes:
            said.append(store.trouble)
            if len(said) == 1:
                raise TimeoutError("no reply")
            return b"here again"

    store = RetryingStore(Away(), SOON)
    assert store.read("a") == b"here again"
    what = f"reading {store.url('a')}: the store does not answer"
    assert said == [f"{what}; waiting for it", f"{what} (TimeoutError: no reply); waiting for it"]
    assert store.trouble == ""


def test_what_was_created_outlives_a_store_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with seaweed(tmp_path) as server:
        store = open_store(server.url("x"), server.storage_options, SOON)
        store.create("a", b"first")
        server.kill()
        server.start()
        assert store.read("a") == b"first"
        assert not store.create("a", b"second")


def test_rights_that_lack_are_told_at_once(seaweed_place: Place, proxy: FaultyProxy) -> None:
    store = open_store(seaweed_place.url, {"s3": {"endpoint_url": proxy.endpoint}})
    proxy.plan = lambda method, path: "403"
    with pytest.raises(OutputError, match=r"writing s3://.*/a: not allowed .*storage_options"):
        store.create("a", b"x")


def test_a_wrong_secret_is_told_without_telling_it(
    seaweed_place: Place, seaweed_server: Seaweed
) -> None:
    options = {"endpoint_url": seaweed_server.endpoint, "secret": f"{SECRET}-wrong"}
    store = open_store(seaweed_place.url, {"s3": options})
    with pytest.raises(OutputError, match="not allowed") as raised:
        store.create("a", b"x")
    assert SECRET not in str(raised.value)


def test_google_refusing_is_told_at_once(proxy: FaultyProxy) -> None:
    proxy.plan = lambda method, path: "403"
    store = open_store("gs://b/x", {"gs": {"endpoint_url": proxy.endpoint, "token": "anon"}})
    with pytest.raises(OutputError, match=r"writing gs://b/x/a: not allowed .*credentials"):
        store.create("a", b"x")


@pytest.mark.parametrize("kind", ["seaweedfs", "moto", "gcs"])
def test_a_bucket_that_is_not_there_is_named(new_place: Callable[[str], Place], kind: str) -> None:
    place = new_place(kind)
    url = f"{place.url.partition(':')[0]}://no-such-bucket/out"
    store = open_store(url, place.storage_options)
    assert list(store.entries()) == []
    with pytest.raises(OutputError, match=f"{url}/a: no such bucket"):
        store.create("a", b"x")


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    store = open_store(str(tmp_path / "out"))
    for action in (store.entries, lambda: store.create("a", b"x")):
        with pytest.raises(OutputError, match=f"{tmp_path}/out.*there is a file where a folder"):
            action()


@pytest.mark.parametrize("url", ["memory://x", "http://h/x", "ftp://h/x", "file-less://x"])
def test_a_store_without_conditional_creation_is_refused(url: str) -> None:
    with pytest.raises(OutputError, match=r"exactly once.*s3:// or gs://"):
        open_store(url)


def test_home_is_where_the_shell_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store("~/out").create("a", b"x")
    assert (tmp_path / "out" / "a").read_bytes() == b"x"


def test_a_full_disk_is_told_as_full_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"/a: the disk is full; free some space and run the same"):
        open_store(str(tmp_path)).create("a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(old: object, new: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OutputError, match=f"{tmp_path}: this file system has no hard links"):
        open_store(str(tmp_path)).create("a", b"x")
