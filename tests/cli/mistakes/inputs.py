"""Mistakes in the prompts: paths, formats, columns, types."""

import gzip
import os

import pyarrow as pa

from tests.cli.mistakes.case import ROWS, Bench, Mistake, file, setting


def columns(wrong: dict[str, str], *says: str) -> Mistake:
    return Mistake(f"columns {wrong}", setting("input.columns", wrong), ("input.columns", *says))


def table(name: str, data: dict[str, object], *says: str, **keys: object) -> Mistake:
    def make(bench: Bench) -> None:
        bench.parquet("prompts.parquet", data)
        for key, value in keys.items():
            bench.set(key.replace("_", ".", 1), value)

    return Mistake(name, make, says)


def _mixed(bench: Bench) -> None:
    bench.parquet("in/a.parquet", ROWS)
    bench.write("in/b.jsonl", '{"prompt": "x"}\n')
    bench.set("input.path", "in")


def _disagreeing(bench: Bench) -> None:
    bench.parquet("in/a.parquet", ROWS)
    bench.parquet("in/b.parquet", {"prompt": ["x"], "n": ["two"]})
    bench.set("input.path", "in")


def _truncated(bench: Bench) -> None:
    path = bench.folder / "prompts.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def _corrupt_footer(bench: Bench) -> None:
    path = bench.folder / "prompts.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-60] + b"\x00" * 52 + data[-8:])


def _dangling(bench: Bench) -> None:
    bench.parquet("in/a.parquet", ROWS)
    (bench.folder / "in" / "b.parquet").symlink_to("gone.parquet")
    bench.set("input.path", "in")


def _pipe(bench: Bench) -> None:
    os.mkfifo(bench.folder / "p.parquet")
    bench.set("input.path", "p.parquet")


def _lacking(bench: Bench) -> None:
    bench.parquet("in/a.parquet", ROWS)
    bench.parquet("in/b.parquet", {"text": ["x"]})
    bench.set("input.path", "in")


CASES = [
    Mistake(
        "no such input, one is near",
        setting("input.path", "promts.parquet"),
        ("promts.parquet", "no such file", "near it: prompts.parquet"),
    ),
    Mistake(
        "no such folder",
        setting("input.path", "data/2024/a.parquet"),
        ("data/2024/a.parquet", "no such file or folder"),
    ),
    Mistake("no match", setting("input.path", "x*.parquet"), ("x*.parquet", "nothing matches")),
    Mistake(
        "an empty folder",
        lambda b: b.set("input.path", "empty") and (b.folder / "empty").mkdir(),
        ("empty", "no file in this folder", "it is empty"),
    ),
    Mistake(
        "a folder with nothing of the kind",
        file("in/notes.txt", "x", input_path="in"),
        ("no file in this folder", "notes.txt"),
    ),
    Mistake(
        "an ending of no format",
        file("prompts.data", "prompt\nx\n", input_path="prompts.data"),
        ("prompts.data", "set input.format"),
    ),
    Mistake(
        "a format that isn't read",
        file("prompts.xlsx", "PK", input_path="prompts.xlsx"),
        ("prompts.xlsx: Excel is not read", "pandas.read_excel('prompts.xlsx').to_parquet("),
    ),
    Mistake(
        "a CSV file with semicolons",
        file("prompts.csv", "id;prompt\n1;x\n", input_path="prompts.csv"),
        ("prompts.csv: has one column, 'id;prompt'", "pandas.read_csv(FILE, sep=';')"),
    ),
    Mistake(
        "a CSV file without a header",
        file("prompts.csv", "Tell a story\nTell another\n", input_path="prompts.csv"),
        ("no column 'prompt' in the input (it has Tell a story)",),
    ),
    Mistake(
        "a folder of files without endings",
        lambda b: (
            b.parquet("in/part-0", ROWS) and b.set("input", {"path": "in", "format": "parquet"})
        ),
        ("in: no parquet file in this folder", "part-0", "in/*"),
    ),
    Mistake("a link to nothing", _dangling, ("in/b.parquet: a link to gone.parquet", "not there")),
    Mistake("a pipe", _pipe, ("p.parquet: is a pipe (FIFO), not a file",)),
    Mistake(
        "a file without the prompt column",
        _lacking,
        ("input.columns.prompt", "no column 'prompt' in", "in/b.parquet (there: text)"),
    ),
    Mistake("two formats", _mixed, ("input.path", "both Parquet", "JSON Lines", "input.format")),
    Mistake("types that disagree", _disagreeing, ("column 'n'", "int64", "string", "output.keep")),
    Mistake(
        "prompts of which none is text",
        file("p.jsonl", '{"prompt": 5}\n{"prompt": ["x"]}\n', input_path="p.jsonl"),
        ("column 'prompt'", "several types", "text is needed"),
    ),
    Mistake("text, called Parquet", file("prompts.parquet", "hi"), ("prompts.parquet", "corrupt")),
    Mistake("empty Parquet file", file("prompts.parquet", b""), ("prompts.parquet", "corrupt")),
    Mistake("truncated Parquet", _truncated, ("prompts.parquet", "truncated")),
    Mistake("corrupt footer", _corrupt_footer, ("prompts.parquet", "corrupt")),
    table("no rows", {"prompt": pa.array([], pa.string())}, "prompts.parquet", "no rows"),
    Mistake(
        "empty JSON Lines",
        file("p.jsonl", "\n\n", input_path="p.jsonl"),
        ("p.jsonl", "no rows in it"),
    ),
    Mistake(
        "JSON Lines with none that can be read",
        file("p.jsonl", "hello\nthere\n", input_path="p.jsonl"),
        ("p.jsonl", "none of its 2 lines", "row 0: not JSON"),
    ),
    Mistake(
        "a JSON array, called JSON Lines",
        file("p.jsonl", '[{"prompt": "x"}]\n', input_path="p.jsonl"),
        ("p.jsonl: is a JSON array", "a JSON object is expected", "jq -c '.[]'"),
    ),
    Mistake(
        "a JSON array with an object on each line",
        file("p.json", '[\n{"prompt": "x"},\n{"prompt": "y"}\n]\n', input_path="p.json"),
        ("p.json: is a JSON array", "not JSON Lines", "jq -c '.[]'"),
    ),
    Mistake(
        "truncated gzip",
        file(
            "p.jsonl.gz",
            gzip.compress(b'{"prompt": "x"}\n' * 999)[:-12],
            input_path="p.jsonl.gz",
        ),
        ("p.jsonl.gz", "truncated"),
    ),
    Mistake(
        "a batch with no request in it",
        lambda b: (
            b.write("p.jsonl", '{"prompt": "x"}\n')
            and b.set("input.path", "p.jsonl").set("input.format", "openai-batch")
        ),
        ("p.jsonl", "row 0: custom_id"),
    ),
    Mistake(
        "an unknown protocol",
        setting("input.path", "ftps3://bucket/x.parquet"),
        ("ftps3://bucket/x.parquet", "cannot be opened"),
    ),
    Mistake(
        "options of no protocol",
        setting("storage_options", {"endpoint_url": "http://x"}),
        ("storage_options.endpoint_url", "should be a section"),
    ),
    columns({"prompt": "promt"}, "no column 'promt'", "did you mean 'prompt'?"),
    columns({"prompt": "n"}, "column 'n' holds int64", "text is needed"),
    columns({"prompt_ids": "prompt"}, "holds string", "a list of token ids is needed"),
    columns({"messages": "n"}, "holds int64", "a list of messages"),
    columns({"prompt": "prompt", "id": "ident"}, "no column 'ident'"),
    columns({"prompt": "prompt", "sampling": "n"}, "holds int64", "sampling keys"),
    table(
        "ids of a type that names nothing",
        {"prompt": ["x"], "score": [[0.5]]},
        "input.columns.id",
        "holds list<element: double>",
        "is needed",
        input_columns={"prompt": "prompt", "id": "score"},
    ),
    table("no prompt column", {"text": ["x"]}, "no column 'prompt'", "it has text"),
    table(
        "a name that is taken",
        {"prompt": ["x"], "completion": ["y"]},
        "already has columns named completion",
        "output.prefix",
        "output.keep",
    ),
    Mistake(
        "keep what isn't there",
        setting("output.keep", ["name", "nmae"]),
        ("output.keep", "no column 'nmae'", "did you mean 'name'?"),
    ),
    Mistake("keep one twice", setting("output.keep", ["name", "name"]), ("output.keep", "twice")),
    table(
        "a template over a part of a column",
        {"meta": [{"title": "x"}], "prompt": ["x"]},
        "no column 'meta.title'",
        "a whole column, and not a part of 'meta'",
        input_template="{meta.title}",
    ),
    Mistake(
        "a template over a column that isn't there",
        lambda b: b.set("input.template", "Say {nam}"),
        ("input.template", "no column 'nam'", "did you mean 'name'?"),
    ),
    Mistake(
        "several columns at once",
        lambda b: (
            b.set("input.template", "{promt} {nme}")
            .set("output.keep", ["n", "n", "mn"])
            .set("input.columns", {"id": "idd"})
        ),
        ("no column 'promt'", "no column 'nme'", "no column 'mn'", "no column 'idd'", "twice: n"),
    ),
]
