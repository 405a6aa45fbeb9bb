"""One mistake, and the folder it is made in: a job over two rows that is right but for it."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROWS = pa.table({"name": ["a", "b"], "prompt": ["In the", "And God"], "n": [1, 2]})


class Bench:
    """A folder in which a job is set up; the tests run inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parquet("prompts.parquet", ROWS)
        self._job: dict[str, Any] = {
            "model": {"weights": "demo"},
            "input": {"path": "prompts.parquet"},
            "output": {"path": "out"},
        }

    def set(self, key: str, value: Any) -> "Bench":
        """Puts `value` at `section.key` of the job."""
        section = self._job
        *above, last = key.split(".")
        for name in above:
            section = section.setdefault(name, {})
        section[last] = value
        return self

    def drop(self, key: str) -> "Bench":
        section = self._job
        *above, last = key.split(".")
        for name in above:
            section = section[name]
        del section[last]
        return self

    def job(self) -> dict[str, Any]:
        return deepcopy(self._job)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def parquet(self, name: str, table: pa.Table | Mapping[str, Any]) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table if isinstance(table, pa.Table) else pa.table(dict(table)), path)
        return path

    def save(self) -> None:
        """Writes job.yaml, unless the case wrote its own."""
        if not (self.folder / "job.yaml").exists():
            self.write("job.yaml", yaml.safe_dump(self._job))


@dataclass(frozen=True)
class Mistake:
    """What is done wrong, and what its message must say: what, where, what to do."""

    name: str
    make: Callable[[Bench], object]
    says: Sequence[str]
    command: Sequence[str] = ("validate", "job.yaml")
    code: int = 2


def nothing(bench: Bench) -> None:
    """The mistake is in the command alone."""


def setting(key: str, value: Any) -> Callable[[Bench], object]:
    """The mistake is one value in the job file."""
    return lambda bench: bench.set(key, value)


def file(name: str, content: str | bytes, **job: Any) -> Callable[[Bench], object]:
    """The mistake is a file; `input_path` and the like are values of the job: section_key."""

    def make(bench: Bench) -> None:
        bench.write(name, content)
        for key, value in job.items():
            bench.set(key.replace("_", ".", 1), value)

    return make
