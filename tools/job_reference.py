"""Writes the job file's reference page from the spec: every field, default, unit and example.

python -m tools.job_reference > docs/job-file.md
"""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rgpipeline.spec import Job

_HEAD = """\
# The job file

<!-- Written by tools/job_reference.py from rgpipeline/spec/; change it there. -->

YAML. Every field has a default but `model.weights`, `input.path` and `output.path`; an unknown key
is refused, with the nearest known one named. `rgpipeline validate job.yaml` finds everything that
is wrong with a job before it runs, and `--set key=value` overrides any field:

```bash
rgpipeline run job.yaml --set sampling.temperature=0.2 --set 'sampling.stop=["\\n\\n"]'
```

The shortest one:

```yaml
model: {weights: demo}
input: {path: demo}
output: {path: out/first}
```

What may change when a job is run again, to resume it: `workers`, `faults`, `storage_options`, and
`engine`. Where `engine` is another, or a worker's chips are divided otherwise (`workers.chips`,
`workers.mesh`, other hosts), a warning says that rows still to come may round differently, and what
`auto` means is settled anew. Anything else belongs to another output.
"""

_SECTIONS = {
    "": "At the top",
    "model": "Which weights, and how they are held.",
    "input": "Where the prompts are.",
    "input.columns": "Which input columns mean what. One of `prompt`, `messages`, `prompt_ids` and "
    "the template makes the prompt; without any of them it is the column `prompt`.",
    "output": "Where completions go, and in what shape.",
    "sampling": "How tokens are drawn. In this order for every token: logit bias, repetition, "
    "presence and frequency penalties, temperature; then top-k, top-p and min-p cut the "
    "distribution; then one draw. A row may override any of it by the column that "
    "`input.columns.sampling` names.",
    "engine": "How a worker's device is used. `auto` is settled once, by the first worker, and "
    "recorded beside the plan, so that every worker and every later run agree; "
    "[performance](performance.md) says what it comes to.",
    "workers": "How many workers, and on what.",
    "workers.mesh": "How one worker's chips are divided.",
    "faults": "What the job puts up with.",
}

# What an example shows best, and the unit where the name doesn't say it.
_EXAMPLES: dict[str, tuple[str, str]] = {
    "name": ("kjv-demo", ""),
    "task": ("score", ""),
    "model.weights": ("gs://models/recurrentgemma-2b-it", ""),
    "model.tokenizer": ("gs://models/tokenizer.model", ""),
    "model.chat_template": ("gs://models/chat_template.jinja", ""),
    "model.dtype": ("bfloat16", ""),
    "model.quantize": ("int8", ""),
    "input.path": ("s3://prompts/*.parquet", ""),
    "input.format": ("openai-batch", ""),
    "input.columns.prompt": ("text", "column"),
    "input.columns.messages": ("messages", "column"),
    "input.columns.prompt_ids": ("ids", "column"),
    "input.columns.completion": ("answer", "column"),
    "input.columns.id": ("url", "column"),
    "input.columns.sampling": ("options", "column"),
    "input.template": ('"Summarise:\\n{text}\\n"', ""),
    "input.limit": ("1000", "rows"),
    "output.path": ("gs://out/run-7", ""),
    "output.keep": ("[url, title]", "columns"),
    "output.prefix": ("rg_", ""),
    "output.segment_tokens": ("16384", "tokens"),
    "output.token_ids": ("true", ""),
    "sampling.max_tokens": ("1000000", "tokens"),
    "sampling.min_tokens": ("16", "tokens"),
    "sampling.temperature": ("0.7", ""),
    "sampling.top_k": ("40", "tokens"),
    "sampling.top_p": ("0.95", "probability"),
    "sampling.min_p": ("0.05", "share"),
    "sampling.repetition_penalty": ("1.1", "factor"),
    "sampling.presence_penalty": ("0.5", "logit"),
    "sampling.frequency_penalty": ("0.2", "logit"),
    "sampling.logit_bias": ("{1234: -100}", "logit"),
    "sampling.seed": ("7", ""),
    "sampling.n": ("8", "samples"),
    "sampling.stop": ('["\\n\\n", "END"]', ""),
    "sampling.stop_ids": ("[107]", "token ids"),
    "sampling.ignore_eos": ("true", ""),
    "sampling.logprobs": ("5", "tokens"),
    "engine.slots": ("256", "sequences"),
    "engine.prefill_chunk": ("512", "tokens"),
    "engine.steps_per_dispatch": ("16", "steps"),
    "workers.accelerator": ("TPU-V6E", ""),
    "workers.count": ("16", "workers"),
    "workers.min": ("4", "workers"),
    "workers.chips": ("4", "chips or cores"),
    "workers.cache": ("/mnt/disk/weights", ""),
    "workers.mesh.data": ("2", "parts"),
    "workers.mesh.model": ("4", "parts"),
    "storage_options": ("{s3: {endpoint_url: 'http://store:9000', key: '${KEY}'}}", ""),
    "faults.max_failed_rows": ("100", "rows"),
    "faults.worker_timeout_s": ("600", "seconds"),
    "faults.max_worker_restarts": ("50", "restarts"),
}


class Row(NamedTuple):
    """One field of the reference."""

    path: str
    kind: str
    default: str
    unit: str
    example: str
    about: str


def main() -> None:
    """Prints the page."""
    print(page(), end="")


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for section, about in _SECTIONS.items():
        title = f"`{section}:`" if section else about
        parts.append(f"## {title}\n")
        if section:
            parts.append(f"{about}\n")
        parts.append(_table([row for row in rows() if row.path.rpartition(".")[0] == section]))
    return "\n".join(parts)


def rows() -> list[Row]:
    """Every field that is no section itself."""
    return list(_rows(Job, ""))


def examples() -> dict[str, str]:
    """The example of each field, as YAML, by its path."""
    return {path: example for path, (example, _) in _EXAMPLES.items()}


def _rows(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, f"{path}.")
            continue
        example, unit = _EXAMPLES[path]
        kind = _kind(
            Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        )
        yield Row(path, kind, _default(field), unit, example, field.description or "")


def _table(found: list[Row]) -> str:
    lines = ["| field | default | what it is |", "|---|---|---|"]
    for row in found:
        unit = f", {row.unit}" if row.unit else ""
        about = row.about.replace("|", "\\|")
        about = f"{about}<br>*{row.kind}{unit}*, such as `{row.example}`"
        lines.append(f"| `{row.path.rpartition('.')[2]}` | {row.default} | {about} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def _kind(annotation: Any) -> str:
    """A type in plain words: `number above 0`, `auto or whole number from 1`."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inside[0]) + _bounds(inside[1:])
    if origin is Literal:
        return _either([str(choice) for choice in inside])
    if origin in (Union, types.UnionType):
        return _either([_kind(part) for part in inside])
    if origin is tuple:
        return f"list of {_plural(inside[0])}"
    if origin is dict:
        return "section"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return "null" if annotation is type(None) else names[annotation]


def _plural(annotation: Any) -> str:
    """Several of a type: `texts`, `whole numbers from 0`."""
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
        return _kind(kind) + "s" + _bounds(tuple(metadata))
    return _kind(annotation) + "s"


def _either(choices: list[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def _bounds(metadata: tuple[Any, ...]) -> str:
    told: list[str] = []
    for bound in metadata:
        match bound:
            case FieldInfo():
                told.append(_bounds(tuple(bound.metadata)).strip())
            case Ge(ge=low):
                told.append(f"from {low:g}")
            case Gt(gt=low):
                told.append(f"above {low:g}")
            case Le(le=high):
                told.append(f"to {high:g}")
            case Lt(lt=high):
                told.append(f"and below {_power(high)}")
    return "".join(f" {part}" for part in told if part)


def _power(high: Any) -> str:
    bits = high.bit_length() - 1 if isinstance(high, int) and high > 0 else 0
    return f"2^{bits}" if bits > 16 and high == 1 << bits else f"{high:g}"


if __name__ == "__main__":
    main()
