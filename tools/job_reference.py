"""Writes the job file's reference page from the spec: every field, default, unit and example.

python -m tools.job_reference > docs/job-file.md
"""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rgpipeline.spec import Job, facts_of

_HEAD = """\
# The job file

<!-- Written by tools/job_reference.py from rgpipeline/spec/; change it there. -->

YAML. Every field has a default except `model.weights`, `input.path` and `output.path`. An unknown
key is refused, and the message suggests the nearest known key. `rgpipeline validate job.yaml` finds
everything that is wrong with a job before it runs, and `--set key=value` overrides any field:

```bash
rgpipeline run job.yaml --set sampling.temperature=0.2 --set 'sampling.stop=["\\n\\n"]'
```

The shortest job:

```yaml
model: {weights: demo}
input: {path: demo}
output: {path: out/first}
```

When you run a job again to resume it, you may change `workers`, `faults`, `storage_options` and
`engine`. If `engine` changes, or the mesh of a worker's chips (`workers.chips`, `workers.mesh`,
other hosts), a warning says that the remaining rows may round differently, and `auto` is resolved
again. Any other change needs another output folder.
"""

_SECTIONS = {
    "": "At the top",
    "model": "Which weights, and how they are stored on the device.",
    "input": "Where the prompts are.",
    "input.columns": "The meaning of input columns. One of `prompt`, `messages`, `prompt_ids` and "
    "the template makes the prompt; without any of them it is the column `prompt`.",
    "output": "Where completions go, and in what form.",
    "sampling": "How tokens are drawn. In this order for every token: logit bias, repetition, "
    "presence and frequency penalties, temperature; then top-k, top-p and min-p cut the "
    "distribution; then one draw. A row may override any of these in the column that "
    "`input.columns.sampling` names.",
    "sampling.structured_outputs": "What a completion must be: exactly one of these. "
    "[Structured output](structured-output.md) says what each can do. The names are vLLM's.",
    "embed": "How `task: embed` makes an embedding of a prompt's final hidden values, those after "
    "the final norm.",
    "engine": "How a worker's device is used. The first worker chooses what `auto` means, once, "
    "and records it beside the plan, so that every worker and every later run agree; "
    "[performance](performance.md) says what it chooses.",
    "workers": "How many workers, and on what.",
    "workers.mesh": "How one worker's chips are divided.",
    "faults": "How many failures the job tolerates.",
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
    """Every field that is not a section, or that may be null in place of one."""
    return list(_rows(Job, ""))


def _rows(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if _is_section(field.annotation):
            yield from _rows(field.annotation, f"{path}.")
            continue
        facts = facts_of(field)
        kind = _kind(
            Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        )
        about = field.description or ""
        yield Row(path, kind, _default(field), facts["unit"], facts["example"], about)
        for section in filter(_is_section, get_args(field.annotation)):
            yield from _rows(section, f"{path}.")


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


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
    if origin is dict or _is_section(annotation):
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
