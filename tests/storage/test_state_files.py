"""A state in every kind of store."""

import numpy as np
import pytest

from rgpipeline.errors import OutputError
from rgpipeline.io.state_files import load_state, state_bytes
from rgpipeline.io.stored_states import StoredStates, state_name
from rgpipeline.read_texts import StateKind, read_text
from rgpipeline.storage.small_files import write_file
from rgpipeline.storage.store import open_store
from tests.storage.servers import Place

KIND = StateKind("0123", "float32", "none", 2048, 1000, 4)
READ = read_text(KIND, None, np.arange(1, 12, dtype=np.int32), 8, {"h": np.ones((1, 3))})


def test_a_state_is_written_and_read_back(place: Place) -> None:
    url = f"{place.url}/states/one.safetensors"
    write_file(url, state_bytes(READ), place.storage_options)
    assert load_state(url, place.storage_options).address == READ.address


def test_a_jobs_state_is_read_by_the_address_that_its_row_has(place: Place) -> None:
    store = open_store(place.url, place.storage_options)
    states = StoredStates(store)
    states.put(READ)
    states.put(READ)  # by another worker
    store.create("_states/orphan.safetensors", b"")
    url = store.url(state_name(READ))
    assert states.remove_others([url]) == 1
    assert load_state(url, place.storage_options).address == READ.address


def test_a_state_that_cannot_be_written_is_told(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="there is a file where a folder is needed"):
        write_file(str(tmp_path / "file" / "state"), b"", None)
