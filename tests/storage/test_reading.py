"""Weights, small files and prompts are read by one set of rules, whatever the store does."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from rgpipeline.errors import StoreError, WeightsError
from rgpipeline.io.input_files import current_version, input_error
from rgpipeline.storage import filesystems, folders, small_files
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.local_copy import local_copy
from rgpipeline.storage.retries import Retry
from rgpipeline.text.template_files import templates_in
from rgpipeline.text.tokenizer import Tokenizer
from tests.model.golden import FOLDER
from tests.storage.flaky_store import FlakyStore, flaky_store
from tests.storage.proxy import Fault, FaultyProxy, faulty_proxy
from tests.storage.servers import Place

TOKENIZER = (FOLDER / "tokenizer" / "tokenizer.model").read_bytes()
TEMPLATE = "{{ messages[0].content }}"

Read = Callable[[str, dict[str, Any]], object]
READERS: dict[str, Read] = {
    "weights": lambda url, options: Folder(url, options).read_json("config.json"),
    "tokenizer": lambda url, options: Tokenizer.load(url, options).vocab_size,
    "chat template": templates_in,
}
EXPECTED = {"weights": {}, "tokenizer": 1024, "chat template": {"default": TEMPLATE}}


@pytest.fixture
def google(gcs_server: Place, new_place: Callable[[str], Place]) -> Iterator[FaultyProxy]:
    """fake-gcs-server behind a proxy; `url` and `options` name a folder with a model's files."""
    with faulty_proxy(gcs_server.storage_options["gs"]["endpoint_url"]) as proxy:
        yield proxy


@pytest.fixture
def folder(google: FaultyProxy, new_place: Callable[[str], Place]) -> Place:
    """A folder with a model's small files, read through the proxy."""
    place = new_place("gcs")
    fs, path = place.filesystem()
    fs.pipe_file(f"{path}/config.json", b"{}")
    fs.pipe_file(f"{path}/tokenizer.model", TOKENIZER)
    fs.pipe_file(f"{path}/chat_template.jinja", TEMPLATE.encode())
    options = {**place.storage_options["gs"], "endpoint_url": google.endpoint}
    return Place(place.url, {"gs": options})


@pytest.fixture
def flaky() -> Iterator[type[FlakyStore]]:
    with flaky_store() as store:
        store().pipe_file("/bucket/model/config.json", b"{}")
        store().pipe_file("/bucket/model/tokenizer.model", TOKENIZER)
        store().pipe_file("/bucket/model/chat_template.jinja", TEMPLATE.encode())
        yield store


def within(seconds: float, action: Callable[[], object]) -> object:
    """The result of `action`, which may hang: then the test fails instead of hanging too."""
    results: list[object] = []
    thread = Thread(target=lambda: results.append(action()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, f"no result within {seconds:g} s"
    return results[0]


@pytest.mark.parametrize("kind", READERS)
def test_a_reply_that_never_comes_is_asked_for_again(
    kind: str, google: FaultyProxy, folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "READ_S", 0.5)
    silent = iter(["silence"])
    google.plan = lambda method, path: next(silent, "none")
    read = READERS[kind]
    assert within(60, lambda: read(folder.url, folder.storage_options)) == EXPECTED[kind]
    assert google.faults == ["silence"]


@pytest.mark.parametrize("kind", READERS)
def test_a_refusal_of_googles_is_the_users_to_mend_and_not_asked_again(
    kind: str, google: FaultyProxy, folder: Place
) -> None:
    asked: list[tuple[str, str]] = []

    def refused(method: str, path: str) -> Fault:
        asked.append((method, path))
        return "403"

    google.plan = refused
    with pytest.raises(WeightsError, match=r"gs://.*: not allowed \(.*credentials"):
        READERS[kind](folder.url, folder.storage_options)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("kind", READERS)
def test_a_blip_costs_nothing(kind: str, flaky: type[FlakyStore]) -> None:
    flaky.faults = iter([OSError("busy"), ConnectionResetError("reset")])
    assert READERS[kind]("flaky://bucket/model", {}) == EXPECTED[kind]


@pytest.mark.parametrize("kind", READERS)
def test_a_store_that_is_down_is_no_mistake_of_the_users(
    kind: str, flaky: type[FlakyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (folders, small_files):
        monkeypatch.setattr(module, "Retry", partial(Retry, deadline_s=0.5))
    flaky.faults = repeat(OSError("down"))
    with pytest.raises(StoreError, match=r"reading flaky://.* has failed for .*down"):
        READERS[kind]("flaky://bucket/model", {})


def test_a_cache_of_a_user_that_is_not_there_is_named(flaky: type[FlakyStore]) -> None:
    folder = Folder("flaky://bucket/model")
    with pytest.raises(WeightsError, match=r"~nosuch/cache: there is no home folder of a user"):
        local_copy(folder, folder.tree(), Path("~nosuch/cache"))


def test_a_refused_prompt_file_is_said_to_be_refused(google: FaultyProxy, folder: Place) -> None:
    google.plan = lambda method, path: "403"
    path = f"{folder.url}/config.json"
    with pytest.raises(OSError, match="Forbidden") as raised:
        current_version(path, folder.storage_options)
    assert f"{path}: not allowed" in str(input_error(path, raised.value))
