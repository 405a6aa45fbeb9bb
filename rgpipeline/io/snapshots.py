"""Snapshots of unfinished sequences: safetensors under `_rgp/state/`."""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rgpipeline.io.array_files import UNREADABLE, pack, unpack
from rgpipeline.records import SampleKey, Snapshot
from rgpipeline.storage.store import Store

_log = logging.getLogger(__name__)

_FOLDER = "_rgp/state/"


class SavedSequence(NamedTuple):
    """A saved sequence: the state of the device, and notes of the host."""

    snapshot: Snapshot
    notes: dict[str, Any]  # of detokenizer, stop matcher and segments


class Snapshots:
    """The saved states of a job's unfinished sequences.

    A snapshot's name says which sequence it is of, and how many tokens had been generated. Two
    workers that save one sequence at the same length save the same bytes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, key: SampleKey, snapshot: Snapshot, notes: Mapping[str, Any]) -> None:
        """Saves a state; `notes` is anything JSON can hold. Raises StoreError."""
        metadata = {"notes": json.dumps(notes), "generated": str(snapshot.generated)}
        self._store.create(_name(key, snapshot.generated), pack(snapshot.arrays, metadata))

    def lengths(self, key: SampleKey) -> list[int]:
        """The lengths (tokens generated) at which `key` is saved, ascending."""
        prefix = _prefix(key)
        pattern = re.compile(re.escape(prefix) + r"(\d+)\.safetensors")
        matches = (pattern.fullmatch(name) for name in self._store.list(prefix))
        return sorted(int(match[1]) for match in matches if match)

    def of_shard(self, shard: int) -> set[SampleKey]:
        """The samples of a shard that have a snapshot."""
        pattern = re.compile(re.escape(f"{_FOLDER}{shard:05d}-") + r"(\d+)-(\d+)-\d+\.safetensors")
        matches = (pattern.fullmatch(name) for name in self._store.list(f"{_FOLDER}{shard:05d}-"))
        return {SampleKey(shard, int(match[1]), int(match[2])) for match in matches if match}

    def newest(self, key: SampleKey, at_most: int | None = None) -> SavedSequence | None:
        """The snapshot of the greatest length (of `at_most` tokens); None when there is none.

        If a snapshot vanishes meanwhile, a worker has saved a newer one, and the search starts
        again. An unreadable snapshot is removed, and an older one is used: generating the tokens
        again gives the same tokens.
        """
        while True:
            lengths = [n for n in self.lengths(key) if at_most is None or n <= at_most]
            if not lengths:
                return None
            name = _name(key, lengths[-1])
            try:
                return _parsed(self._store.read(name))
            except FileNotFoundError:
                continue
            except UNREADABLE as error:
                where = self._store.url(name)
                _log.warning("%s: not a readable snapshot (%s); an older one will do", where, error)
                self._store.delete(name)

    def remove(self, key: SampleKey, below: int | None = None) -> None:
        """Removes the snapshots of fewer than `below` tokens, or all of them."""
        for length in self.lengths(key):
            if below is None or length < below:
                self._store.delete(_name(key, length))

    def remove_everything(self) -> None:
        """Removes the snapshots of all sequences: the job is finished."""
        for name in self._store.list(_FOLDER):
            self._store.delete(name)


def _parsed(data: bytes) -> SavedSequence:
    """Raises one of `UNREADABLE`."""
    arrays, metadata = unpack(data)
    snapshot = Snapshot(arrays, int(metadata["generated"]))
    return SavedSequence(snapshot, json.loads(metadata["notes"]))


def _prefix(key: SampleKey) -> str:
    return f"{_FOLDER}{key.shard:05d}-{key.row}-{key.sample}-"


def _name(key: SampleKey, generated: int) -> str:
    return f"{_prefix(key)}{generated}.safetensors"
