"""What the endings of files' names say: which format, or how to make one that is read."""

from pathlib import PurePosixPath

from rgpipeline.io.input_files import COMPRESSIONS

_JSON = (".jsonl", ".ndjson", ".json")
ENDINGS: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "jsonl": tuple(ending + squeezed for ending in _JSON for squeezed in ("", *COMPRESSIONS)),
}
ENDINGS["openai-batch"] = ENDINGS["jsonl"]
_ALL = ENDINGS["parquet"] + ENDINGS["jsonl"]
_OTHER_SPELLINGS = {".parq": "parquet", ".jsonlines": "jsonl", ".jl": "jsonl"}
_PACKED = (
    *(".bz2", ".xz", ".lz4", ".br", ".snappy", ".lzma", ".gz", ".gzip", ".zst", ".zstd"),
    *(".zip", ".tar", ".tgz", ".7z"),
)

_TO_PARQUET = "is not read; write it as Parquet: "
_CONVERTED = {
    ".csv": f"CSV {_TO_PARQUET}pandas.read_csv({{name}}).to_parquet('prompts.parquet')",
    ".tsv": f"TSV {_TO_PARQUET}pandas.read_csv({{name}}, sep='\\t').to_parquet('prompts.parquet')",
    ".orc": f"ORC {_TO_PARQUET}pandas.read_orc({{name}}).to_parquet('prompts.parquet')",
    ".avro": f"Avro {_TO_PARQUET}polars.read_avro({{name}}).write_parquet('prompts.parquet')",
    ".xlsx": f"Excel {_TO_PARQUET}pandas.read_excel({{name}}).to_parquet('prompts.parquet')",
}
_ARROW = (
    f"Arrow {_TO_PARQUET}pandas.read_feather({{name}}).to_parquet('prompts.parquet'); a folder "
    f"that save_to_disk wrote: datasets.load_from_disk(FOLDER).to_parquet('prompts.parquet')"
)
_CONVERTED |= dict.fromkeys((".arrow", ".feather", ".ipc"), _ARROW)
_NO_DATA = (".md", ".rst", ".html", ".py")
_PAPERS = ("readme", "license", "notice", "changelog")


def endings_of(format: str) -> tuple[str, ...]:
    """The endings that a folder's files may have; with `auto` those of every format."""
    return ENDINGS.get(format, _ALL)


def format_of(path: str) -> str | None:
    """`parquet` or `jsonl` by the name's ending; None where it says neither."""
    return next((kind for kind in ("parquet", "jsonl") if path.endswith(ENDINGS[kind])), None)


def ending_of(path: str) -> str:
    """The last ending of the name, with the one before it where the last is a compression."""
    suffixes = PurePosixPath(path).suffixes
    if len(suffixes) > 1 and suffixes[-1].lower() in _PACKED:
        return "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else ""


def may_hold_rows(path: str) -> bool:
    """Whether somebody may take a file of this name for input."""
    name = PurePosixPath(path).name.lower()
    return not name.endswith(_NO_DATA) and not name.startswith(_PAPERS)


def remedy(path: str, glob: str | None = None) -> str:
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
        return f"{ending} is not read; unpack it, or pack JSON Lines as .gz or .zst"
    unknown = "its ending says no format" if glob is None else "if they hold Parquet or JSON Lines"
    between = "; " if glob is None else ", "
    return f"{unknown}{between}{named}set input.format to parquet, jsonl or openai-batch"
