"""Makes the small data files of the example jobs from the demo's own text.

python -m tools.example_data jobs/data
"""

import json
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_SYSTEM = "You are a scribe. Continue the verse that you are given, in the same manner."


def main(folder: Path) -> None:
    """Writes every file into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    source = str(files("rgpipeline") / "demo" / "prompts.parquet")
    verses: list[dict[str, str]] = pq.read_table(source).to_pylist()
    _lines(folder / "passages.jsonl", _passages(verses))
    _lines(folder / "requests.jsonl", _requests(verses))
    pq.write_table(pa.Table.from_pylist(list(_chats(verses))), folder / "chats.parquet")
    _lines(folder / "turns.jsonl", _turns(verses))
    pq.write_table(pa.Table.from_pylist(list(_stories())), folder / "stories.parquet")


def _passages(verses: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Three verses of one book in a row, to be continued."""
    for book in dict.fromkeys(verse["book"] for verse in verses):
        mine = [verse for verse in verses if verse["book"] == book][:3]
        if len(mine) == 3:
            text = "\n".join(verse["verse"] for verse in mine)
            yield {"ref": mine[0]["id"], "book": book, "text": text}


def _chats(verses: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    for verse in verses[::8]:
        messages = [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": verse["prompt"]},
        ]
        yield {"chat": verse["id"], "messages": messages}


def _turns(verses: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Chats of three questions, of which the model has answered none."""
    for first in range(0, 60, 3):
        questions = [verse["prompt"] for verse in verses[first : first + 3]]
        turns = [{"role": "user", "content": question} for question in questions]
        messages = [turn for one in turns for turn in (one, {"role": "assistant", "content": None})]
        yield {"chat": verses[first]["id"], "messages": messages}


def _requests(verses: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Requests as one would send to OpenAI's batch endpoint: most of them plain, some chats."""
    for index, verse in enumerate(verses[::8]):
        options = {"model": "demo", "max_tokens": 64, "temperature": 0.8, "seed": index}
        if index % 4:
            url, body = "/v1/completions", {**options, "prompt": verse["prompt"]}
        else:
            messages = [{"role": "user", "content": verse["prompt"]}]
            url, body = "/v1/chat/completions", {**options, "messages": messages}
        yield {"custom_id": verse["id"], "method": "POST", "url": url, "body": body}


def _stories() -> Iterator[dict[str, str]]:
    yield {"title": "beginning", "opening": "In the beginning"}
    yield {"title": "reign", "opening": "Now it came to pass in the days of the king"}


def _lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
