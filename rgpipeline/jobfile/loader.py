"""Reads a job file, applies `key.sub=value` overrides and makes a `Job` of it."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from rgpipeline.errors import JobError
from rgpipeline.jobfile.job_grammar import with_grammar
from rgpipeline.jobfile.spec_faults import model_in, spec_faults
from rgpipeline.spec import Job
from rgpipeline.text.prompt_template import PromptTemplate


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Reads a job file and puts `key.sub=value` overrides, values as in YAML, over it.

    Raises JobError naming the file and every fault in it, each with its key.
    """
    mapping = parse_yaml(read_text(Path(path)), str(path))
    if not isinstance(mapping, dict):
        raise JobError(
            f"{path}: holds {_kind(mapping)}; a job is a mapping with the keys "
            f"{', '.join(Job.model_fields)}"
        )
    faults = [fault for text in overrides if (fault := override(mapping, text))]
    keys = [text.partition("=")[0].strip() for text in overrides]
    return _job(mapping, str(path), keys, faults)


def parse_job(mapping: Mapping[str, Any], name: str) -> Job:
    """The job in a mapping; `name` is what errors call it. Raises JobError with every fault."""
    return _job(mapping, name, (), [])


def _job(
    mapping: Mapping[str, Any], name: str, overridden: Sequence[str], faults: list[str]
) -> Job:
    job = None
    try:
        job = Job.model_validate(_without_empty_sections(mapping, Job))
        if job.input.template:
            PromptTemplate(job.input.template)
        job = with_grammar(job)
    except ValidationError as error:
        for fault in spec_faults(error, Job):
            key = fault.partition(": ")[0]
            by_override = any(f"{key}.".startswith(f"{other}.") for other in overridden)
            faults = [*faults, f"--set {fault}" if by_override else f"{name}: {fault}"]
    except JobError as error:
        faults = [*faults, f"{name}: {error}"]
    if faults or job is None:
        raise JobError("\n".join(faults))
    return job


def _without_empty_sections(mapping: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """`sampling:` with nothing below it reads as null in YAML and means its defaults."""
    filled = {str(key): value for key, value in mapping.items()}
    for name, field in model.model_fields.items():
        section = model_in(field.annotation)
        value = filled.get(name, ...)
        if section is not None and (value is None or isinstance(value, dict)):
            filled[name] = _without_empty_sections(value or {}, section)
    return filled


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else f"a single {type(value).__name__}"


def override(mapping: dict[str, Any], text: str) -> str | None:
    """Puts one `key.sub=value` into `mapping`; returns what is wrong with it, if anything.

    The value is read as YAML: `[a, b]` is a list, an empty value is null. A number as key names an
    entry of a list. Creates missing sections.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    names = key.split(".")
    if not equals or not all(names):
        return f"--set {text}: not understood; write key=value, such as sampling.seed=7"
    try:
        parsed = parse_yaml(value, f"--set {key}")
    except JobError as error:
        return str(error)
    section: Any = mapping
    for depth, name in enumerate(names[:-1]):
        if isinstance(section, dict) and section.get(name) is None:
            section[name] = {}
        section = _member(section, name)
        if not isinstance(section, dict | list):
            inside = ".".join(names[: depth + 1])
            return f"--set {key}: {inside} is not a section; nothing can be set in it"
    return _set(section, names[-1], parsed, key)


def _set(section: Any, name: str, value: Any, key: str) -> str | None:
    if isinstance(section, dict):
        section[name] = value
    elif name.isdecimal() and int(name) < len(section):
        section[int(name)] = value
    else:
        entries = ", ".join(map(str, range(len(section)))) or "none"
        return f"--set {key}: no such entry in the list (there are {entries}); set it whole: [a, b]"
    return None


def _member(section: Any, name: str) -> Any:
    if isinstance(section, dict):
        return section.get(name)
    return section[int(name)] if name.isdecimal() and int(name) < len(section) else None


_SHOWN_NAMES = 5
_MOST_DEPTH = 100  # far more than any job has, and far below Python's recursion limit


def read_text(path: Path) -> str:
    """The text of a job file. Raises JobError with the reason, and names of files nearby."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise JobError(f"{path}: no such file{_nearby(path.parent, path.name)}") from None
    except IsADirectoryError:
        raise JobError(f"{path}: is a folder; name a job file{_nearby(path, '')}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise JobError(f"{path}, line {line}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise JobError(f"{path}: can't be read ({error.strerror or error})") from None


def parse_yaml(text: str, name: str) -> Any:
    """The data in a YAML text. Raises JobError with the line and column of what is wrong."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = "; ".join(part for part in (error.context, error.problem) if part)
        raise JobError(f"{name}{where}: {problem}{_hint(problem)}") from None
    except RecursionError:
        raise JobError(f"{name}: nested too deeply to be a job") from None
    except (yaml.YAMLError, ValueError) as error:
        raise JobError(f"{name}: not YAML ({' '.join(str(error).split())})") from None


class _Loader(yaml.SafeLoader):
    """YAML of plain data: refuses a key given twice in a mapping; dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the base class
        first: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:timestamp"]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._depth == _MOST_DEPTH:
            raise RecursionError
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in lines:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} is given twice, first in line {lines[key.value]}; "
                    f"remove one of them",
                    problem_mark=key.start_mark,
                )
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _nearby(folder: Path, name: str) -> str:
    """A hint at the file that may have been meant."""
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {folder / near[0]}?"
    jobs = [name for name in names if name.endswith((".yaml", ".yml"))][:_SHOWN_NAMES]
    return f"; there are {', '.join(jobs)}" if jobs else ""


def _hint(problem: str) -> str:
    if r"'\t'" in problem:
        return "; YAML is indented with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "; check the indentation, and put a text that has ': ' in it in quotes"
    return ""
