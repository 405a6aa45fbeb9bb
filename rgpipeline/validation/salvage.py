"""What can still be looked into when a job file has faults."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rgpipeline.jobfile.overrides import override
from rgpipeline.spec import Job

_ROUNDS = 5  # a fault that is taken out may uncover another
_STAND_INS: dict[tuple[str, ...], Any] = {
    ("model", "weights"): "demo",
    ("input", "path"): "demo",
    ("output", "path"): "out",
}


def salvage(path: str | Path, overrides: Sequence[str]) -> tuple[Job, frozenset[str]] | None:
    """The job without its faulty keys, and the sections that had none; None if nothing is left."""
    try:
        mapping = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(mapping, dict):
        return None
    for text in overrides:
        override(mapping, text)
    bad: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            return Job.model_validate(mapping), frozenset(Job.model_fields) - bad
        except ValidationError as error:
            for fault in error.errors():
                place = tuple(map(str, fault["loc"]))
                bad.add(place[0] if place else "")
                _take_out(mapping, place)
    return None


def _take_out(mapping: dict[str, Any], place: tuple[str, ...]) -> None:
    """Removes what stands at `place`, or puts what must stand there."""
    section: Any = mapping
    for depth, name in enumerate(place):
        stand_in = _STAND_INS.get(place[: depth + 1])
        last = depth == len(place) - 1 or not isinstance(section.get(name), dict)
        if stand_in is not None:
            section[name] = stand_in
            return
        if last:
            section.pop(name, None)
            _fill(section, place[:depth], name)
            return
        section = section[name]


def _fill(section: dict[str, Any], above: tuple[str, ...], name: str) -> None:
    """A section that is gone whole leaves what a job can't do without."""
    for place, value in _STAND_INS.items():
        if place[0] == name and not above:
            section.setdefault(name, {})[place[1]] = value
