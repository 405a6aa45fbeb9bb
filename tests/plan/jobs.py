"""Small jobs over Parquet files, to be planned."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.spec import Job

Facts = dict[str, Any]


def job(folder: Path | str, path: Any = None, **sections: Any) -> Job:
    """A job over `folder`/in with its output in `folder`/out; sections are merged in."""
    facts: Facts = {
        "model": {"weights": "demo"},
        "input": {"path": path or f"{folder}/in"},
        "output": {"path": f"{folder}/out"},
    }
    for name, section in sections.items():
        facts[name] = {**facts.get(name, {}), **section} if isinstance(section, dict) else section
    return Job.model_validate(facts)


def write_input(folder: Path, name: str, columns: Facts | pa.Table, **options: Any) -> Path:
    """A Parquet file under `folder`/in."""
    path = folder / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, **options)
    return path


def prompts(folder: Path, count: int, name: str = "a.parquet") -> Path:
    """A file with the prompts `0`, `1`, …"""
    return write_input(folder, name, {"prompt": [str(k) for k in range(count)]})
