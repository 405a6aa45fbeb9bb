"""Local input through symbolic links, and beside what is neither file nor folder."""

import os
import socket
from pathlib import Path

import pytest

from rgpipeline.errors import InputError
from rgpipeline.io.input_files import current_version
from rgpipeline.io.paths import expand_inputs, takes_in


def write(path: Path, text: str = "rows") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def link(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def names(*paths: Path | str) -> list[str]:
    return [file.name for file in expand_inputs(list(map(str, paths)), "parquet").files]


def warnings(path: Path) -> list[str]:
    return list(expand_inputs([str(path)], "parquet").warnings)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a file, a linked file and a linked folder."""
    write(tmp_path / "in" / "a.parquet")
    link(tmp_path / "in" / "b.parquet", write(tmp_path / "elsewhere" / "x"))
    link(tmp_path / "in" / "deep", write(tmp_path / "more" / "c.parquet").parent)
    return tmp_path / "in"


def test_linked_files_and_folders_are_read_beside_real_ones(mixed: Path) -> None:
    assert names(mixed) == ["a.parquet", "b.parquet", "deep/c.parquet"]
    assert names(mixed / "*.parquet") == ["a.parquet", "b.parquet"]
    assert names(mixed / "**" / "*.parquet") == ["a.parquet", "b.parquet", "deep/c.parquet"]
    assert names(mixed / "b.parquet", mixed / "a.parquet") == ["b.parquet", "a.parquet"]


def test_an_input_path_may_be_a_link_itself(mixed: Path, tmp_path: Path) -> None:
    folder = link(tmp_path / "linked", mixed)
    assert names(folder) == names(mixed)
    assert names(link(tmp_path / "one.parquet", mixed / "a.parquet")) == ["one.parquet"]


def test_the_hubs_cache_is_read_under_the_names_of_its_links(tmp_path: Path) -> None:
    write(tmp_path / "blobs" / "0123abcd")
    link(tmp_path / "snapshots" / "f00" / "data" / "train.parquet", "../../../blobs/0123abcd")
    found = expand_inputs([str(tmp_path)], "auto")
    assert [file.name for file in found.files] == ["snapshots/f00/data/train.parquet"]
    assert found.warnings == ()


def test_size_and_version_of_a_link_are_its_targets(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", "one"), write(tmp_path / "2", "three")
    path = link(tmp_path / "in" / "a.parquet", first)
    (file,) = expand_inputs([str(path.parent)], "parquet").files
    before = current_version(str(path), None)
    assert before == (file.size, file.version) == current_version(str(first), None)
    os.utime(path, (1, 1), follow_symlinks=False)
    assert current_version(str(path), None) == before
    path.unlink()
    assert current_version(str(link(path, second)), None) != before


def test_a_walk_ends_where_links_lead_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet")
    write(tmp_path / "other" / "b.parquet")
    link(tmp_path / "in" / "other", tmp_path / "other")
    link(tmp_path / "other" / "back", tmp_path / "in")
    link(tmp_path / "in" / "up", "..")
    assert names(tmp_path / "in") == ["a.parquet", "other/b.parquet"]
    told = f"{tmp_path}/in/other/back, {tmp_path}/in/up"
    assert warnings(tmp_path / "in") == [f"left out, link to a folder above: {told}"]


@pytest.mark.parametrize("target", ["nowhere", "a.parquet"], ids=["dangling", "to itself"])
def test_a_link_to_nothing_is_refused_by_name(tmp_path: Path, target: str) -> None:
    write(tmp_path / "in" / "b.parquet")
    path = link(tmp_path / "in" / "a.parquet", target)
    for named in (path.parent, path, path.parent / "*.parquet"):
        with pytest.raises(InputError, match=f"a.parquet: a link to {target}, which is not there"):
            names(named)


def test_a_link_to_nothing_that_is_no_input_file_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    link(tmp_path / "archive", "nowhere")
    assert warnings(tmp_path) == [f"left out, broken link: {tmp_path}/archive"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_left_out_of_a_folder_and_refused_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's address is short
    write(tmp_path / "a.parquet")
    path = tmp_path / "b.parquet"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(path.name)
    else:
        link(path, "/dev/zero")
    assert names(tmp_path) == names(tmp_path / "*.parquet") == ["a.parquet"]
    (warning,) = warnings(tmp_path)
    assert warning.startswith(f"left out, {kind}")
    assert warning.endswith(str(path))
    with pytest.raises(InputError, match=f"b.parquet: is a {kind}.*, not a file"):
        names(path)


def test_a_file_replaced_by_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"is a pipe \(FIFO\) now, not a file"):
        current_version(str(tmp_path / "a.parquet"), None)


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    write(tmp_path / "a.parquet")
    closed = write(tmp_path / "closed" / "b.parquet").parent
    closed.chmod(0)
    assert warnings(tmp_path) == [f"left out, Permission denied: {closed}"]


def test_an_output_that_a_linked_input_would_take_in_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "store" / "a.parquet").parent
    linked = link(tmp_path / "in", folder)
    assert takes_in(str(linked), f"{folder}/out/part.parquet", "auto")
    assert not takes_in(str(linked), f"{tmp_path}/out/part.parquet", "auto")
