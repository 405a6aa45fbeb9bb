"""What a folder's listing leaves out or doubts is told, in few lines."""

from pathlib import Path

import pytest

from rgpipeline.errors import InputError
from rgpipeline.io.paths import expand_inputs
from tests.storage.servers import Place


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def warnings(path: Path | str, format: str = "auto") -> list[str]:
    return list(expand_inputs([str(path)], format).warnings)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("A.PARQUET", "name them by a glob ({folder}/*.PARQUET) and set input.format: parquet"),
        ("a.parq", "name them by a glob ({folder}/*.parq) and set input.format: parquet"),
        ("a.JSONL", "name them by a glob ({folder}/*.JSONL) and set input.format: jsonl"),
        ("a.jsonl.bz2", ".jsonl.bz2 is not read; unpack it, or pack JSON Lines, CSV or TSV as .gz"),
        ("part-00000", "name them by a glob ({folder}/*) and set input.format"),
        ("deep/part-0", "name them by a glob ({folder}/**/*) and set input.format"),
        ("a.CSV", "name them by a glob ({folder}/*.CSV) and set input.format: csv"),
        ("a.tab", "name them by a glob ({folder}/*.tab) and set input.format: tsv"),
        ("a.orc", "ORC is not read; write it as Parquet: pandas.read_orc"),
        ("a.avro", "Avro is not read; write it as Parquet: polars.read_avro"),
        ("a.orc.gz", "ORC is not read; write it as Parquet: pandas.read_orc('a.orc.gz')"),
        ("a.xlsx", "Excel is not read; write it as Parquet: pandas.read_excel('a.xlsx')"),
        ("a.xls", "Excel is not read; write it as Parquet: pandas.read_excel('a.xls')"),
        ("a.pkl", "pickle is not read; write it as Parquet: pandas.read_pickle('a.pkl')"),
    ],
)
def test_a_file_left_out_for_its_ending_is_told_with_what_to_do(
    tmp_path: Path, name: str, remedy: str
) -> None:
    (warning,) = warnings(write(tmp_path, "a.parquet", name))
    assert warning.startswith(f"{tmp_path}: 1 file ")
    assert f"left out ({name}); " in warning
    assert remedy.format(folder=tmp_path) in warning


def test_globs_as_the_warnings_advise_them_read_the_files(tmp_path: Path) -> None:
    write(tmp_path, "A.PARQUET", "deep/B.PARQUET", "deep/part-0")
    for glob, count in ((f"{tmp_path}/**/*.PARQUET", 2), (f"{tmp_path}/**/*", 3)):
        assert len(expand_inputs([glob], "parquet").files) == count


def test_files_of_one_ending_share_a_line_and_lines_are_few(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", *(f"{k}.parq" for k in range(9)), *(f"x.e{k}" for k in range(9)))
    told = warnings(tmp_path)
    assert (
        f"{tmp_path}: 9 files ending in .parq left out (0.parq, 1.parq, 2.parq, and 6 more);"
        in (" ".join(told))
    )
    assert told[-1] == "… and 5 more endings"
    assert len(told) == 6


def test_what_holds_no_rows_is_not_told(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", "README.md", "LICENSE", "_SUCCESS", ".x.crc", "b.jsonl")
    assert warnings(tmp_path, "parquet") == []


def test_a_folder_with_other_formats_only_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, "data.orc")
    with pytest.raises(InputError, match=r"no file in this folder.*pandas\.read_orc"):
        warnings(tmp_path)


def test_of_a_saved_hugging_face_dataset_only_its_own_data_files_are_read(tmp_path: Path) -> None:
    own = ("dataset_dict.json", "train/dataset_info.json", "train/state.json")
    data = "train/data-00000-of-00001.arrow"
    write(tmp_path, data, "train/cache-0123abc.arrow", *own)
    inputs = expand_inputs([str(tmp_path)], "auto")
    assert [file.name for file in inputs.files] == [data]
    (warning,) = inputs.warnings
    assert "a cache of Hugging Face datasets" in warning
    assert "cache-0123abc.arrow" in warning


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ("_delta_log/00000000000000000000.json", "Delta"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/v1.metadata.json", "Iceberg"),
    ],
)
def test_the_files_of_a_table_are_read_with_a_warning(place: Place, record: str, kind: str) -> None:
    fs, path = place.filesystem()
    for name in ("t/date=1/a.parquet", f"t/{record}"):
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", b"x")
    inputs = expand_inputs([place.url], "auto", place.storage_options)
    assert [file.name for file in inputs.files] == ["t/date=1/a.parquet"]
    (warning,) = inputs.warnings
    assert f"t is a table ({kind})" in warning


def test_a_glob_into_a_delta_table_has_the_warning_too(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", "_delta_log/0.json")
    assert "is a table (Delta)" in warnings(tmp_path / "*.parquet")[0]


@pytest.mark.parametrize("folder", ["data[1]", "a*b", "what?", "x[y]/z[0]"])
def test_a_folders_name_may_have_wildcards_in_it(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder, "a.parquet", "deep/b.parquet")
    for path, count in ((folder, 2), (f"{folder}/*.parquet", 1), (f"{folder}/**/*.parquet", 2)):
        assert len(expand_inputs([f"{tmp_path}/{path}"], "auto").files) == count


def test_a_wildcard_that_matches_is_one(tmp_path: Path) -> None:
    write(tmp_path, "data[1]/a.parquet", "data1/b.parquet")
    (file,) = expand_inputs([f"{tmp_path}/data[1]/*.parquet"], "auto").files
    assert file.path == f"{tmp_path}/data1/b.parquet"
