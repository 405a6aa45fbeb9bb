"""What every store promises, tried on each; another client's reading is the oracle."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore, open_store
from tests.storage.servers import Place

SOON = Retry(deadline_s=120.0, first_s=0.01)
ODD = "ünï côde/50% +&=@'(1)~#2/日本"


@pytest.fixture
def store(place: Place) -> RetryingStore:
    return open_store(place.url, place.storage_options, SOON)


def other_reads(place: Place, name: str) -> bytes:
    fs, path = place.filesystem()
    return bytes(fs.cat_file(f"{path}/{name}"))


def other_writes(place: Place, name: str, data: bytes) -> None:
    fs, path = place.filesystem()
    fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
    fs.pipe_file(f"{path}/{name}", data)


def test_what_is_created_others_read(store: RetryingStore, place: Place) -> None:
    assert store.create("a/b.bin", b"one")
    assert other_reads(place, "a/b.bin") == b"one"


def test_what_others_create_is_seen_at_once(store: RetryingStore, place: Place) -> None:
    assert (store.list(), store.exists("late"), list(store.entries())) == ([], False, [])
    other_writes(place, "late", b"x")
    assert (store.list(), store.exists("late"), list(store.entries())) == (["late"], True, ["late"])


def test_who_comes_second_changes_nothing(store: RetryingStore) -> None:
    store.create("a", b"first")
    assert not store.create("a", b"second")
    assert store.read("a") == b"first"


def test_creating_the_same_again_is_ones_own(store: RetryingStore) -> None:
    assert store.create("a", b"same")
    assert store.create("a", b"same")


def test_an_empty_object_is_an_object(store: RetryingStore) -> None:
    assert store.create("_SUCCESS", b"")
    assert store.exists("_SUCCESS")
    assert store.read("_SUCCESS") == b""
    assert store.list() == ["_SUCCESS"]
    assert not store.create("_SUCCESS", b"x")


def test_of_threads_that_race_one_wins(place: Place) -> None:
    start = Barrier(6)

    def race(who: int) -> list[bool]:
        store = open_store(place.url, place.storage_options, SOON)
        start.wait()
        return [store.create(f"race/{number}", b"%d" % who) for number in range(5)]

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(race, range(6)))
    store = open_store(place.url, place.storage_options, SOON)
    for number in range(5):
        winners = [who for who in range(6) if won[who][number]]
        assert [b"%d" % who for who in winners] == [store.read(f"race/{number}")]


def test_of_processes_that_race_one_wins(place: Place) -> None:
    command = [sys.executable, "-m", "tests.storage.racer"]
    arguments = [place.url, json.dumps(place.storage_options)]
    racers = [
        subprocess.Popen(
            [*command, *arguments, str(who), "20"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {
        name: str(who).encode()
        for who, racer in enumerate(racers)
        for name in json.loads(racer.communicate()[0])
    }
    store = open_store(place.url, place.storage_options, SOON)
    assert won == {name: store.read(name) for name in store.list("race/")}
    assert len(won) == 20


def test_replacing_overwrites(store: RetryingStore) -> None:
    store.replace("_rgp/summary.json", b"one")
    store.replace("_rgp/summary.json", b"second")
    assert store.read("_rgp/summary.json") == b"second"


@pytest.mark.parametrize("length", [1, 5, 6, 7, 1 << 16])
def test_a_tail_is_the_last_bytes_or_all_there_are(store: RetryingStore, length: int) -> None:
    store.create("a", b"012345")
    assert store.read_tail("a", length) == b"012345"[-length:]


def test_the_tail_of_nothing_is_nothing(store: RetryingStore) -> None:
    store.create("a", b"")
    assert store.read_tail("a", 8) == b""


def test_what_is_absent_is_told_as_absent(store: RetryingStore) -> None:
    for read in (store.read, lambda name: store.read_tail(name, 4)):
        with pytest.raises(FileNotFoundError):
            read("no/such")
    assert not store.exists("no/such")
    store.delete("no/such")


def test_what_is_deleted_is_gone_for_everyone(store: RetryingStore, place: Place) -> None:
    store.create("a/b", b"x")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert store.list() == []
    with pytest.raises(FileNotFoundError):
        other_reads(place, "a/b")


def test_what_was_deleted_can_be_created_again(store: RetryingStore) -> None:
    store.create("a", b"one")
    store.delete("a")
    assert store.create("a", b"two")


def test_lists_are_sorted_whole_and_by_prefix(store: RetryingStore) -> None:
    names = ["part-00000-0000.parquet", "part-00001-0000.parquet", "_rgp/a", "_rgp/state/0-1"]
    for name in [*names, "_rgp/state/0-12", "_rgp/statement"]:
        store.create(name, b"x")
    assert store.list() == sorted([*names, "_rgp/state/0-12", "_rgp/statement"])
    assert store.list("part-") == names[:2]
    assert store.list("_rgp/state/") == ["_rgp/state/0-1", "_rgp/state/0-12"]
    assert store.list("_rgp/state/0-12") == ["_rgp/state/0-12"]
    assert store.list("nothing") == store.list("no/such/folder/") == []


def test_more_names_than_one_listing_holds(new_place: Callable[[str], Place]) -> None:
    place = new_place("seaweedfs")
    fs, path = place.filesystem()
    fs.pipe({f"{path}/n/{number:04d}": b"" for number in range(1005)})
    store = open_store(place.url, place.storage_options, SOON)
    assert store.list("n/") == [f"n/{number:04d}" for number in range(1005)]


def test_entries_are_names_of_objects_and_folders(store: RetryingStore) -> None:
    for name in ("b", "a/x", "a/y/z"):
        store.create(name, b"x")
    assert list(store.entries()) == ["a", "b"]


def test_names_of_all_kinds_come_back(place: Place) -> None:
    store = open_store(f"{place.url}/{ODD}", place.storage_options, SOON)
    assert store.create(f"{ODD}/x", b"odd")
    assert store.list() == [f"{ODD}/x"]
    assert list(store.entries()) == [ODD.partition("/")[0]]
    assert store.read(f"{ODD}/x") == other_reads(place, f"{ODD}/{ODD}/x") == b"odd"


def test_a_neighbour_of_like_name_is_another_folder(place: Place) -> None:
    other_writes(place.under("run-1"), "a", b"x")
    other_writes(place.under("run-10"), "a", b"x")
    assert open_store(place.under("run-1").url, place.storage_options).list() == ["a"]
    assert open_store(place.under("run").url, place.storage_options).list() == []


def test_a_large_object_is_created_once_like_a_small_one(store: RetryingStore) -> None:
    data = bytes(range(256)) * (60 << 12)  # above what clients upload in one request
    assert store.create("large", data)
    assert not store.create("large", data[1:])
    assert store.create("large", data)
    assert store.read("large") == data
