"""A job file's text, and the plain data in it."""

import difflib
from pathlib import Path
from typing import Any

import yaml

from rgpipeline.errors import JobError

_SHOWN_NAMES = 5
_MOST_DEPTH = 100  # far beyond any job, far below Python's own limit: there even clean-ups fail


def read_text(path: Path) -> str:
    """Raises JobError saying why there is nothing to read, with names of files nearby."""
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
        told = "; ".join(part for part in (error.context, error.problem) if part)
        raise JobError(f"{name}{where}: {told}{_hint(told)}") from None
    except RecursionError:
        raise JobError(f"{name}: nested too deeply to be a job") from None
    except (yaml.YAMLError, ValueError) as error:
        raise JobError(f"{name}: not YAML ({' '.join(str(error).split())})") from None


class _Loader(yaml.SafeLoader):
    """YAML of plain data: a key may stand once in its mapping, and dates are text."""

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
                    problem=f"{key.value!r} stands twice, first in line {lines[key.value]}; "
                    f"remove one of them",
                    problem_mark=key.start_mark,
                )
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _nearby(folder: Path, name: str) -> str:
    """What may have been meant, of the files in a folder."""
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {folder / near[0]}?"
    jobs = [name for name in names if name.endswith((".yaml", ".yml"))][:_SHOWN_NAMES]
    return f"; there are {', '.join(jobs)}" if jobs else ""


def _hint(told: str) -> str:
    if r"'\t'" in told:
        return "; YAML is indented with spaces, not tabs"
    if "mapping values are not allowed" in told:
        return "; check the indentation, and put a text that has ': ' in it in quotes"
    return ""
