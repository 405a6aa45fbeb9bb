"""The plan: a record, and its JSON form."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from rgpipeline import __version__
from rgpipeline.input_formats import FORMATS, brings_prompts
from rgpipeline.io.parts import AddedColumns, PartLabel
from rgpipeline.io.readers import Reader, reader_for
from rgpipeline.io.shard_rows import InputRows, read_shard
from rgpipeline.records import InputFile, Shard, Span
from rgpipeline.spec import Columns, Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.tasks import task_of
from rgpipeline.text.prompt_template import PromptTemplate


@dataclass(frozen=True)
class Plan:
    """Which rows a job has, in which files, and how they are cut into shards."""

    job: Mapping[str, Any]  # what of the job decides the output's bytes, see `identity`
    format: str  # one of FORMATS
    files: tuple[InputFile, ...]
    shards: tuple[Shard, ...]
    schema: pa.Schema  # of the kept input columns, in order
    kept: tuple[str, ...]  # carried to the output, in order
    columns: Columns  # which columns mean what; a format may say so itself
    partitions: tuple[str, ...] = ()  # columns that come from folders' names
    choices: bool = False  # the column of completions to score holds lists of texts
    # When the job began; the date for chat templates that ask for one.
    began: datetime = field(default_factory=datetime.now, compare=False)
    warnings: tuple[str, ...] = ()  # for the person, on opening; not part of the plan

    @property
    def rows(self) -> int:
        """Rows of the whole job."""
        return sum(shard.rows for shard in self.shards)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """The input columns that prompts, ids and sampling come from, each once."""
        return used_columns(self.columns, self.job["input"]["template"])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that name this plan: equal for equal jobs over equal inputs."""
        facts = {"job": self.job, "files": _file_facts(self), "shards": _shard_facts(self)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def has_found_id(self, job: Job) -> bool:
        """Whether a column names the rows only because it is called `id`."""
        named = job.input.columns.id is not None or brings_prompts(self.format)
        return self.columns.id is not None and not named

    def reader(self, options: StorageOptions | None = None) -> Reader:
        """A reader of the input's format, for one thread."""
        return reader_for(self.format, options)

    def read(
        self, shard: Shard, options: StorageOptions | None = None, reader: Reader | None = None
    ) -> InputRows:
        """The input rows of a shard, see `io.shard_rows.read_shard`.

        To read many shards in order, pass the same `reader`: it continues where it ended.
        """
        reader = reader or self.reader(options)
        return read_shard(
            self.files, shard, reader, self.schema, self.used, self.partitions, options
        )

    def part_schema(self, added: AddedColumns) -> pa.Schema:
        """The columns of every part: the kept ones, then ours."""
        kept = [self.schema.field(name).remove_metadata() for name in self.kept]
        return pa.schema(kept + list(added.schema))

    def label(self, job: Job, shard: int, part: int, attempt: str) -> PartLabel:
        """The label that a part of this job carries in its footer."""
        about = {
            "name": job.name,
            "model": job.model.weights,
            "seed": str(job.sampling.seed),
            "version": __version__,
        }
        return PartLabel(shard, part, attempt, self.fingerprint, about)

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "version": 1,
                "rgpipeline": __version__,
                "fingerprint": self.fingerprint,
                "rows": self.rows,
                "format": self.format,
                "files": [asdict(file) for file in self.files],
                "shards": _shard_facts(self),
                "schema": base64.b64encode(self.schema.serialize()).decode(),
                "kept": self.kept,
                "columns": self.columns.model_dump(),
                "partitions": self.partitions,
                "choices": self.choices,
                "began": self.began.isoformat(timespec="seconds"),
                "job": self.job,
            }
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Plan":
        """Raises KeyError, TypeError or ValueError when `data` is not a plan of ours."""
        facts = json.loads(data)
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(facts["schema"])))
        return cls(
            job=facts["job"],
            format=facts["format"],
            files=tuple(
                InputFile(**{**file, "marks": tuple(file["marks"])}) for file in facts["files"]
            ),
            shards=tuple(
                Shard(index, tuple(Span(*span) for span in spans))
                for index, spans in enumerate(facts["shards"])
            ),
            schema=pa.schema([schema.field(name) for name in facts["kept"]]),
            kept=tuple(facts["kept"]),
            # An earlier version may not have known all columns of a format.
            columns=Columns(**{**FORMATS[facts["format"]].columns, **facts["columns"]}),
            partitions=tuple(facts["partitions"]),
            choices=facts.get("choices", False),
            began=datetime.fromisoformat(facts["began"]) if "began" in facts else datetime.now(),
        )


def used_columns(columns: Columns, template: str | None) -> tuple[str, ...]:
    """The input columns that prompts, ids and sampling come from, each once."""
    named = [name for name in columns.model_dump().values() if name is not None]
    fields = PromptTemplate(template).fields if template else ()
    return tuple(dict.fromkeys([*named, *fields]))


# Keys that earlier versions lacked, with the default that means what those versions did.
_LATER_KEYS = {
    "model.adapter": None,
    "model.base": None,
    "input.columns.tools": None,
    "input.columns.state": None,
    "input.special_tokens": "auto",
    "input.bos": True,
    "output.states": None,
    "output.messages": False,
}


def identity(job: Job) -> dict[str, Any]:
    """What of a job decides its output's bytes. Not `input.path`: the plan has the files."""
    sections = {"task", "model", "input", "output", "sampling", *task_of(job).sections}
    facts = job.model_dump(mode="json", include=sections)
    del facts["input"]["path"], facts["output"]["path"]
    for key, default in _LATER_KEYS.items():  # plans made before have the same fingerprint
        *sections_of_key, name = key.split(".")
        section: Any = facts
        for part in sections_of_key:
            section = section[part]
        if section[name] == default:
            del section[name]
    return facts


def _file_facts(plan: Plan) -> list[tuple[str, int, str, int]]:
    return [(file.name, file.size, file.version, file.rows) for file in plan.files]


def _shard_facts(plan: Plan) -> list[list[tuple[int, int, int]]]:
    return [[(span.file, span.start, span.stop) for span in s.spans] for s in plan.shards]
