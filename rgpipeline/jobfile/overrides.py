"""Overrides from the command line: `sampling.temperature=0.7`."""

from typing import Any

from rgpipeline.errors import JobError
from rgpipeline.jobfile.source import parse_yaml


def override(mapping: dict[str, Any], text: str) -> str | None:
    """Puts one `key.sub=value` into `mapping`; returns what is wrong with it, if anything.

    The value is read as YAML: `[a, b]` is a list, nothing is null. A number names an entry of a
    list that is there. Sections that are missing are made.
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
    for place, name in enumerate(names[:-1]):
        if isinstance(section, dict) and section.get(name) is None:
            section[name] = {}
        section = _member(section, name)
        if not isinstance(section, dict | list):
            inside = ".".join(names[: place + 1])
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
