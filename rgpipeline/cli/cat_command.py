"""`rgpipeline cat`: prints the completions of a job, as text or as strict JSON lines."""

import base64
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rgpipeline.cli.shared_options import Output, Storage, storage_options
from rgpipeline.errors import UserError

if TYPE_CHECKING:
    from rgpipeline.output import WholeText


class Format(StrEnum):
    """How texts are printed."""

    TEXT = "text"
    JSONL = "jsonl"
    OPENAI_BATCH = "openai-batch"


def cat(
    output: Output,
    id: Annotated[str | None, typer.Option("--id", help="Only the rows with this id.")] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.TEXT,
    state: Annotated[
        bool, typer.Option("--state", help="OUTPUT is a state's file: print what it is.")
    ] = False,
    storage: Storage = None,
) -> int:
    """Print the completions of a job, the segments of long ones joined.

    \b
    Examples:
      rgpipeline cat out/demo | less
      rgpipeline cat out/demo --id 'Ge 10:6'
      rgpipeline cat out/demo --format jsonl > completions.jsonl
      rgpipeline cat out/batch --format openai-batch > batch_output.jsonl
      rgpipeline cat out/book/_states/3f….safetensors --state

    Works while the job runs; unfinished completions come last.
    """
    from rgpipeline.output import JobFolder, whole_texts

    if state:
        if id is not None or format is not Format.TEXT:
            raise UserError("--state prints a state's file alone; leave out --id and --format")
        typer.echo(_about_state(output, storage_options(storage)))
        return 0
    texts = whole_texts(JobFolder.open(output, storage_options(storage)), id)
    printed = 0
    for line in _LINES[format](texts):
        typer.echo(line)
        printed += 1
    if id is not None and not printed:
        raise UserError(
            f"{output}: no completion with id {id!r} is published (`rgpipeline cat {output} "
            f"--format jsonl` shows all ids)"
        )
    return 0


def _about_state(url: str, options: Mapping[str, Any] | None) -> str:
    from rgpipeline.io.state_files import load_state

    read = load_state(url, options)
    kind, arrays = read.kind, sum(array.nbytes for array in read.arrays.values())
    facts = {
        "position": f"{read.position:,} tokens",
        "read": f"{read.read:,} tokens, in chunks of {kind.prefill_chunk}",
        "read again": f"{len(read.tail):,} tokens, by each row that follows",
        "ends in": "the model's turn of a chat" if read.in_turn else "a text",
        "size": f"{arrays / 1e6:.1f} MB of state, {(read.nbytes - arrays) / 1e3:.1f} kB beside it",
        "model": f"fingerprint {kind.model}, {kind.dtype}, quantize {kind.quantize}",
        "window": f"{kind.window:,} tokens",
        "vocabulary": f"{kind.vocabulary:,} tokens",
        "address": read.address,
    }
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name:{width}}{fact}" for name, fact in facts.items())


def _as_text(texts: Iterable["WholeText"]) -> Iterator[str]:
    for text in texts:
        sample = f", sample {text.sample}" if text.samples > 1 else ""
        how = text.finish_reason or "unfinished"
        yield f"== {text.id}{sample} ({text.completion_tokens:,} tokens, {how})"
        yield f"error: {text.error}\n" if text.error is not None else f"{text.text}\n"


def _as_json(texts: Iterable["WholeText"]) -> Iterator[str]:
    for text in texts:
        fields = {
            "id": text.id,
            "sample": text.sample,
            "completion": text.text if text.error is None else text.text or None,
            "finish_reason": text.finish_reason,
            "prompt_tokens": text.prompt_tokens,
            "completion_tokens": text.completion_tokens,
            "error": text.error,
        }
        optional = {"completion_ids": text.completion_ids, "logprobs": text.logprobs}
        fields |= {name: value for name, value in optional.items() if value is not None}
        ours = {f"{text.prefix}{name}": value for name, value in fields.items()}
        yield json_line({**text.kept, **ours})


def _as_batch(texts: Iterable["WholeText"]) -> Iterator[str]:
    from rgpipeline.output.openai_responses import batch_responses

    return map(json_line, batch_responses(texts))


_LINES: dict[Format, Callable[[Iterable["WholeText"]], Iterator[str]]] = {
    Format.TEXT: _as_text,
    Format.JSONL: _as_json,
    Format.OPENAI_BATCH: _as_batch,
}


def json_line(value: Mapping[str, Any]) -> str:
    """One line of strict JSON, in characters that stdout's encoding has (others are escaped).

    Values that JSON lacks: NaN and infinities become null, bytes base64, and all others (dates,
    decimals, UUIDs) their text.
    """
    line = json.dumps(_plain(value), ensure_ascii=False, default=str, allow_nan=False)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(_plain(value), default=str, allow_nan=False)
    return line


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {_key(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(_plain(key))
