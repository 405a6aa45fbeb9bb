"""The formats of input files, and what the ending of a file's name says of its format.

Layer 0. To add a format: write its reader (see `io.readers.Reader`), and add its name and its line
to the table here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

FormatName = Literal[
    "auto", "parquet", "jsonl", "csv", "tsv", "arrow", "openai-batch"
]  # the values of input.format

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}  # of formats that are text; Arrow's names


def _with_compressions(*endings: str) -> tuple[str, ...]:
    return tuple(ending + packed for ending in endings for packed in ("", *COMPRESSIONS))


_JSON_ENDINGS = _with_compressions(".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class InputFormat:
    """One input format.

    Attributes:
        name: As `input.format` names it.
        title: As messages name it.
        reader: `module:class` of its `Reader`, imported when a file is read.
        endings: Of files' names; a folder's other files are left out.
        found: Whether `input.format: auto` takes files with these endings for this format.
        columns: Which of its columns mean what, by the names of `input.columns`, where the format
            says so and the job doesn't.
        kept: Its columns that are carried to the output; none: those that `output.keep` says.
    """

    name: str
    title: str
    reader: str
    endings: tuple[str, ...]
    found: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


_TABLE = (
    InputFormat("parquet", "Parquet", "rgpipeline.io.parquet:ParquetReader", (".parquet", ".pq")),
    InputFormat("jsonl", "JSON Lines", "rgpipeline.io.jsonl:JsonLinesReader", _JSON_ENDINGS),
    InputFormat("csv", "CSV", "rgpipeline.io.delimited:CsvReader", _with_compressions(".csv")),
    InputFormat("tsv", "TSV", "rgpipeline.io.delimited:TsvReader", _with_compressions(".tsv")),
    InputFormat(
        "arrow",
        "Arrow IPC",
        "rgpipeline.io.arrow_ipc:ArrowReader",
        (".arrow", ".arrows", ".ipc", ".feather"),
    ),
    InputFormat(
        "openai-batch",
        "OpenAI batch",
        "rgpipeline.io.openai_requests:OpenAIBatchReader",
        _JSON_ENDINGS,
        found=False,
        columns={
            "id": "custom_id",
            "prompt": "prompt",
            "prompt_ids": "prompt_ids",
            "messages": "messages",
            "tools": "tools",
            "sampling": "sampling",
        },
        kept=("custom_id", "url", "model", "top_logprobs"),
    ),
)
FORMATS = {format.name: format for format in _TABLE}
_FOUND = tuple(format for format in _TABLE if format.found)

_OTHER_SPELLINGS = {
    ".parq": "parquet",
    ".jsonlines": "jsonl",
    ".jl": "jsonl",
    ".tab": "tsv",
}
_PACKED = (
    *(".bz2", ".xz", ".lz4", ".br", ".snappy", ".lzma", ".gz", ".gzip", ".zst", ".zstd"),
    *(".zip", ".tar", ".tgz", ".7z"),
)
_TO_PARQUET = "is not read; write it as Parquet: "
_CONVERTED = {  # what isn't read, and how to make Parquet of it
    ".orc": f"ORC {_TO_PARQUET}pandas.read_orc({{name}}).to_parquet('prompts.parquet')",
    ".avro": f"Avro {_TO_PARQUET}polars.read_avro({{name}}).write_parquet('prompts.parquet')",
    ".pkl": f"pickle {_TO_PARQUET}pandas.read_pickle({{name}}).to_parquet('prompts.parquet')",
}
_EXCEL = f"Excel {_TO_PARQUET}pandas.read_excel({{name}}).to_parquet('prompts.parquet')"
_CONVERTED |= dict.fromkeys((".xlsx", ".xls"), _EXCEL) | {".pickle": _CONVERTED[".pkl"]}
_NO_DATA = (".md", ".rst", ".html", ".py")
_PAPERS = ("readme", "license", "notice", "changelog")


def brings_prompts(format: str) -> bool:
    """Whether files of a format say by themselves what their columns mean."""
    return format in FORMATS and bool(FORMATS[format].columns)


def endings_of(format: str) -> tuple[str, ...]:
    """The endings that a folder's files may have; with `auto` those of every format."""
    formats = (FORMATS[format],) if format in FORMATS else _FOUND
    return tuple(ending for one in formats for ending in one.endings)


def format_of(path: str) -> str | None:
    """The format by the name's ending; None where it says none."""
    return next((one.name for one in _FOUND if path.endswith(one.endings)), None)


def ending_of(path: str) -> str:
    """The last ending of the name, with the one before it where the last is a compression."""
    suffixes = PurePosixPath(path).suffixes
    if len(suffixes) > 1 and suffixes[-1].lower() in _PACKED:
        return "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else ""


def may_hold_rows(path: str) -> bool:
    """Whether a file of this name looks like input rather than documentation or code."""
    name = PurePosixPath(path).name.lower()
    return not name.endswith(_NO_DATA) and not name.startswith(_PAPERS)


def how_to_read(path: str, glob: str | None = None) -> str:
    """What to do so that files with this one's ending are read.

    `glob`: the pattern that names them, where a folder left them out.
    """
    ending = ending_of(path).lower()
    first, last = (PurePosixPath(f"x{ending}").suffixes or [""])[0], PurePosixPath(ending).suffix
    named = "" if glob is None else f"name them by a glob ({glob}) and "
    known = format_of(ending) or _OTHER_SPELLINGS.get(ending)
    if first in _CONVERTED:
        return _CONVERTED[first].format(name=repr(PurePosixPath(path).name))
    if known is not None:
        return f"{named or 'its ending says no format; '}set input.format: {known}"
    if (last or ending) in _PACKED:
        return f"{ending} is not read; unpack it, or pack JSON Lines, CSV or TSV as .gz or .zst"
    titles = _either([one.title for one in _FOUND])
    unknown = "its ending says no format" if glob is None else f"if they hold {titles}"
    between = "; " if glob is None else ", "
    return f"{unknown}{between}{named}set input.format to {_either([*FORMATS])}"


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"
