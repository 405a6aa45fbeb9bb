"""Snapshots: bits come back as they were, the newest is found, older ones go."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rgpipeline.io.snapshots import Snapshots
from rgpipeline.records import SampleKey, Snapshot
from tests.io.schedules import FaultyStore, MemoryStore, Schedule, patient

KEY = SampleKey(3, 14, 1)
DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8"]
DTYPES += ["uint64", "uint32", "uint16", "uint8", "bool"]


def snapshot(generated: int, **arrays: np.ndarray) -> Snapshot:
    return Snapshot(arrays or {"x": np.arange(3)}, generated)


@given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0))))
def test_an_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    snapshots = Snapshots(MemoryStore())
    snapshots.save(KEY, snapshot(5, state=array), {"text": "é\ud800", "n": [1]})
    saved = snapshots.newest(KEY)
    assert saved is not None
    back = saved.snapshot.arrays["state"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert (saved.snapshot.generated, saved.notes) == (5, {"text": "é\ud800", "n": [1]})


def test_bfloat16_and_strided_arrays_come_back() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2].astype(ml_dtypes.bfloat16)[:, ::3]
    snapshots = Snapshots(MemoryStore())
    snapshots.save(KEY, snapshot(1, a=array), {})
    saved = snapshots.newest(KEY)
    assert saved is not None
    assert saved.snapshot.arrays["a"].dtype == array.dtype
    assert saved.snapshot.arrays["a"].tolist() == array.tolist()


def test_it_is_safetensors(tmp_path: Path) -> None:
    store = MemoryStore()
    Snapshots(store).save(KEY, snapshot(7), {})
    ((name, data),) = store.objects.items()
    assert name == "_rgp/state/00003-14-1-7.safetensors"
    assert safetensors.numpy.load(data)["x"].tolist() == [0, 1, 2]


def test_the_newest_is_of_the_greatest_length_asked_for() -> None:
    snapshots = Snapshots(MemoryStore())
    for length in (9, 100, 20):
        snapshots.save(KEY, snapshot(length), {"length": length})
    assert snapshots.lengths(KEY) == [9, 20, 100]
    found = [snapshots.newest(KEY, most) for most in (None, 100, 99, 9, 8)]
    assert [saved and saved.notes["length"] for saved in found] == [100, 100, 20, 9, None]


def test_another_sample_of_like_name_has_its_own() -> None:
    snapshots = Snapshots(MemoryStore())
    snapshots.save(SampleKey(3, 14, 11), snapshot(5), {})
    snapshots.save(SampleKey(3, 1, 1), snapshot(6), {})
    assert snapshots.lengths(KEY) == snapshots.lengths(SampleKey(3, 14, 0)) == []


def test_older_ones_are_removed_and_at_the_end_all() -> None:
    snapshots = Snapshots(MemoryStore())
    for length in (5, 10, 15):
        snapshots.save(KEY, snapshot(length), {})
    snapshots.save(SampleKey(0, 0, 0), snapshot(1), {})
    snapshots.remove(KEY, below=15)
    assert snapshots.lengths(KEY) == [15]
    snapshots.remove(KEY)
    assert snapshots.lengths(KEY) == []
    snapshots.remove_everything()
    assert snapshots.lengths(SampleKey(0, 0, 0)) == []


def test_one_removed_while_it_is_read_makes_way_for_the_newer() -> None:
    class Busy(MemoryStore):
        def read(self, name: str) -> bytes:
            if "-5." in name and self.objects.pop(name, None):
                snapshots.save(KEY, snapshot(9), {})
            return super().read(name)

    snapshots = Snapshots(Busy())
    snapshots.save(KEY, snapshot(5), {})
    saved = snapshots.newest(KEY)
    assert saved is not None
    assert saved.snapshot.generated == 9


def test_saving_what_another_saved_and_removed_is_no_error() -> None:
    class Busy(MemoryStore):
        def read(self, name: str) -> bytes:
            raise FileNotFoundError(name)

    store = Busy()
    snapshots = Snapshots(patient(store))
    snapshots.save(KEY, snapshot(5), {"whose": "first"})
    snapshots.save(KEY, snapshot(5), {"whose": "second"})
    assert len(store.objects) == 1


@pytest.mark.parametrize("keep", [0, 4, 30, -1])
def test_one_that_is_cut_short_makes_way_for_an_older_one(
    keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    snapshots = Snapshots(store)
    snapshots.save(KEY, snapshot(5), {})
    (older,) = store.objects
    snapshots.save(KEY, snapshot(9), {})
    (newer,) = store.objects.keys() - {older}
    store.objects[newer] = store.objects[newer][:keep]
    saved = snapshots.newest(KEY)
    assert saved is not None
    assert saved.snapshot.generated == 5
    assert list(store.objects) == [older]
    assert "00003-14-1-9.safetensors: not a readable snapshot" in caplog.text


def test_one_with_a_bit_changed_is_as_good_as_none() -> None:
    store = MemoryStore()
    Snapshots(store).save(KEY, snapshot(5), {})
    (name,) = store.objects
    whole = store.objects[name]
    store.objects[name] = whole[:-1] + bytes([whole[-1] ^ 1])
    assert Snapshots(store).newest(KEY) is None


def test_passing_failures_are_not_noticed() -> None:
    objects: dict[str, bytes] = {}
    fates = FaultyStore._FATES
    before, after = fates.index("error before"), fates.index("error after")
    store = FaultyStore(objects, Schedule([after, 0, before, 0, after, 0, before]), lambda: None)
    snapshots = Snapshots(patient(store))
    snapshots.save(KEY, snapshot(5), {"a": 1})
    saved = snapshots.newest(KEY)
    assert saved is not None
    assert json.dumps(saved.notes) == '{"a": 1}'
