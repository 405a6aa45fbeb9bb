"""What paths name: files, folders, globs and lists, alike on every store."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub.constants
import pytest

from rgpipeline.errors import InputError
from rgpipeline.io.input_files import current_version
from rgpipeline.io.paths import expand_inputs, takes_in
from tests.storage.servers import Place

TREE = [
    "b.parquet",
    "a.parquet",
    "deep/er/c.parquet",
    "year=2024/d.parquet",
    "notes.txt",
    "_hidden.parquet",
    ".hidden.parquet",
    "_rgp/e.parquet",
    "deep/.git/f.parquet",
]


@pytest.fixture
def tree(place: Place) -> Place:
    fs, path = place.filesystem()
    for name in TREE:
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", name.encode())
    return place


def names(place: Place, *paths: str, format: str = "auto") -> list[str]:
    urls = [f"{place.url}/{path}" if path else place.url for path in paths]
    return [file.name for file in expand_inputs(urls, format, place.storage_options).files]


def test_a_folder_gives_the_files_of_its_format_in_all_subfolders(tree: Place) -> None:
    expected = ["a.parquet", "b.parquet", "deep/er/c.parquet", "year=2024/d.parquet"]
    assert names(tree, "") == names(tree, "", format="parquet") == expected


def test_a_glob_gives_what_matches_and_folders_whole(tree: Place) -> None:
    assert names(tree, "*.parquet") == ["a.parquet", "b.parquet"]
    assert names(tree, "[b-z].parquet") == ["b.parquet"]
    assert names(tree, "d*") == ["deep/er/c.parquet"]
    assert names(tree, "**/c.parquet") == ["deep/er/c.parquet"]


def test_a_file_named_by_itself_is_taken_whatever_its_name(tree: Place) -> None:
    assert names(tree, "_hidden.parquet") == ["_hidden.parquet"]
    assert names(tree, "notes.txt", format="jsonl") == ["notes.txt"]


def test_entries_keep_their_order_and_a_file_is_taken_once(tree: Place) -> None:
    assert names(tree, "b.parquet", "*.parquet") == ["b.parquet", "a.parquet"]


def test_paths_are_full_addresses_with_sizes_and_versions(tree: Place) -> None:
    (file,) = expand_inputs([f"{tree.url}/a.parquet"], "auto", tree.storage_options).files
    assert file.path == f"{tree.url}/a.parquet"
    assert file.size == len("a.parquet")
    assert current_version(file.path, tree.storage_options) == (file.size, file.version)


def test_a_version_is_the_same_however_the_file_was_found(tree: Place) -> None:
    paths = [f"{tree.url}/a.parquet", f"{tree.url}/a*.parquet", tree.url]
    found = [expand_inputs([path], "parquet", tree.storage_options).files[0] for path in paths]
    assert len({file.version for file in found}) == 1
    assert found[0].version


def test_a_version_tells_one_content_from_the_next(tree: Place) -> None:
    before = current_version(f"{tree.url}/a.parquet", tree.storage_options)
    time.sleep(0.02)  # the times that a disk notes may be as coarse as the kernel's tick
    fs, path = tree.filesystem()
    fs.pipe_file(f"{path}/a.parquet", b"A.PARQUET")
    assert current_version(f"{tree.url}/a.parquet", tree.storage_options) != before


def test_what_is_not_there_is_named_with_what_is_near(tree: Place) -> None:
    with pytest.raises(InputError, match=r"/a.parqet: no such file or folder; near it: a.parquet"):
        names(tree, "a.parqet")
    with pytest.raises(InputError, match=r"/\*.csv: nothing matches; near it: .*a.parquet"):
        names(tree, "*.csv")
    with pytest.raises(InputError, match=r"/deep: no jsonl file in this folder; it holds .*er"):
        names(tree, "deep", format="jsonl")


def local(folder: Path, files: Sequence[str]) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.parquet", "parquet"),
        ("a.pq", "parquet"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.json", "jsonl"),
        ("a.jsonl.gz", "jsonl"),
        ("a.json.zst", "jsonl"),
    ],
)
def test_endings_tell_the_format(tmp_path: Path, name: str, format: str) -> None:
    assert expand_inputs([str(local(tmp_path, [name]))], "auto").format == format


def test_two_formats_at_once_are_refused_naming_one_file_of_each(tmp_path: Path) -> None:
    local(tmp_path, ["a.parquet", "b.jsonl"])
    told = (
        r"both Parquet \(.*a.parquet\) and JSON .*b.jsonl.*input.format \(parquet or jsonl\) takes"
    )
    with pytest.raises(InputError, match=told):
        expand_inputs([str(tmp_path)], "auto")


def test_an_ending_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    local(tmp_path, ["a.txt"])
    with pytest.raises(InputError, match=r"a.txt: its ending says no format; set input.format"):
        expand_inputs([str(tmp_path / "a.txt")], "auto")


def test_names_are_never_alike(tmp_path: Path) -> None:
    local(tmp_path, ["x/a.jsonl", "y/a.jsonl"])
    found = expand_inputs([f"{tmp_path}/x/a.jsonl", f"{tmp_path}/y/a.jsonl"], "auto").files
    assert [file.name for file in found] == ["x/a.jsonl", "y/a.jsonl"]


def test_relative_paths_and_home_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(tmp_path, ["a.jsonl"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("a.jsonl", "./*.jsonl", ".", "~/a.jsonl"):
        assert expand_inputs([path], "auto").files[0].path == str(tmp_path / "a.jsonl")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file in this folder; it is empty"):
        expand_inputs([str(tmp_path)], "auto")


def test_a_file_one_may_not_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    local(tmp_path, ["x/a.jsonl"])
    (tmp_path / "x").chmod(0)
    with pytest.raises(InputError, match="not allowed"):
        expand_inputs([str(tmp_path / "x" / "a.jsonl")], "auto")


@pytest.mark.parametrize(
    ("path", "file", "format", "taken"),
    [
        ("/d", "/d/out/p.parquet", "auto", True),
        ("/d/", "/d/p.parquet", "parquet", True),
        ("/d", "/d/out/p.parquet", "jsonl", False),
        ("/d", "/d/_out/p.parquet", "auto", False),
        ("/d", "/data/p.parquet", "auto", False),
        ("/d/p.parquet", "/d/p.parquet", "auto", True),
        ("/d/*.parquet", "/d/p.parquet", "auto", True),
        ("/d/*.parquet", "/d/out/p.parquet", "auto", False),
        ("/d/*", "/d/out/p.parquet", "auto", True),
        ("/d/*", "/d/out/p.parquet", "jsonl", False),
        ("/d/*", "/d/_out/p.parquet", "auto", False),
        ("/d/**/*.parquet", "/d/a/b/p.parquet", "auto", True),
        ("/d/a*/x", "/d/ab/x/y/p.parquet", "auto", True),
        ("s3://b/d", "s3://b/d/p.parquet", "auto", True),
        ("s3://b/d", "s3a://b/d/p.parquet", "auto", True),
        ("s3://b/d", "/b/d/p.parquet", "auto", False),
        ("demo", "/d/p.parquet", "auto", False),
    ],
)
def test_what_an_entry_would_take_in(path: str, file: str, format: str, taken: bool) -> None:
    assert takes_in(path, file, format) == taken


def test_the_hub_is_not_asked_offline_and_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"n/a.parquet: HF_HUB_OFFLINE is set.*unset it"):
        expand_inputs(["hf://datasets/o/n/a.parquet"], "auto")
