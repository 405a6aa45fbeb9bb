"""The table of input formats: complete, and used by spec, planning and readers alike."""

from typing import get_args

import pytest

from rgpipeline.input_formats import FORMATS, FormatName, brings_prompts, endings_of, format_of
from rgpipeline.io.readers import reader_for
from rgpipeline.spec import Columns


def test_the_job_file_takes_the_formats_of_the_table() -> None:
    assert get_args(FormatName) == ("auto", *FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_its_reader(name: str) -> None:
    reader = reader_for(name, None)
    assert all(callable(getattr(reader, f)) for f in ("scan", "read", "has_small_integers"))


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_formats_columns_mean_is_said_by_the_job_files_names(name: str) -> None:
    assert set(FORMATS[name].columns) <= set(Columns.model_fields)
    assert brings_prompts(name) == bool(FORMATS[name].kept)


def test_an_ending_belongs_to_one_format_of_those_that_auto_finds() -> None:
    endings = endings_of("auto")
    assert len(endings) == len(set(endings))
    assert all(format_of(f"prompts{ending}") is not None for ending in endings)
