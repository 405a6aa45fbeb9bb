"""The columns we add to the kept ones: names, types and values."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from rgpipeline.records import OutputRow, Score
from rgpipeline.spec import Job


class _Column(NamedTuple):
    name: str
    type: pa.DataType
    value: Callable[[OutputRow], Any]


@dataclass(frozen=True, slots=True)
class AddedColumns:
    """Which columns a job adds to its input's, in their order.

    task generate: id, sample, segment, completion, finish_reason, prompt_tokens,
    completion_tokens, error; then, where asked, completion_ids (list<int32>) and logprobs.
    task score: id, sample, segment, tokens, logprob, perplexity, prompt_tokens, error; then,
    where asked, token_logprobs (list<float32>). `prefix` goes before every name.

    `logprobs` is list<float32>, of the sampled tokens, for `sampling.logprobs: 1`; with more it
    is JSON text, for it holds the most probable tokens too, or, for OpenAI batch files, the
    tokens' texts.
    """

    task: str
    prefix: str = ""
    token_ids: bool = False
    logprobs: str = "none"  # none | floats | json

    @classmethod
    def of(cls, job: Job) -> "AddedColumns":
        """What a job asks for; rows with sampling of their own may ask for log-probabilities."""
        by_row = job.input.columns.sampling is not None or job.input.format == "openai-batch"
        if job.sampling.logprobs == 1 and job.input.format != "openai-batch":
            logprobs = "floats"
        else:
            logprobs = "json" if job.sampling.logprobs or by_row else "none"
        return cls(job.task, job.output.prefix, job.output.token_ids, logprobs)

    @property
    def names(self) -> list[str]:
        return [self.prefix + column.name for column in self._columns()]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(self.prefix + column.name, column.type) for column in self._columns()])

    def table(self, rows: Sequence[OutputRow]) -> pa.Table:
        """Our columns of `rows`, one row each."""
        columns = self._columns()
        arrays = [pa.array(map(column.value, rows), column.type) for column in columns]
        return pa.table(arrays, schema=self.schema)

    def _columns(self) -> list[_Column]:
        first = [
            _Column("id", pa.string(), lambda row: row.id),
            _Column("sample", pa.int32(), lambda row: row.sample),
            _Column("segment", pa.int32(), lambda row: row.segment),
        ]
        return first + (self._score() if self.task == "score" else self._completion())

    def _completion(self) -> list[_Column]:
        columns = [
            _Column("completion", pa.large_string(), lambda row: row.completion),
            _Column("finish_reason", pa.string(), lambda row: row.finish_reason),
            _Column("prompt_tokens", pa.int64(), lambda row: row.prompt_tokens),
            _Column("completion_tokens", pa.int64(), lambda row: row.completion_tokens),
            _Column("error", pa.string(), lambda row: row.error),
        ]
        if self.token_ids:
            columns.append(
                _Column("completion_ids", pa.list_(pa.int32()), lambda row: row.completion_ids)
            )
        if self.logprobs == "floats":
            columns.append(_Column("logprobs", pa.list_(pa.float32()), lambda row: row.logprobs))
        elif self.logprobs == "json":
            columns.append(_Column("logprobs", pa.string(), _json_logprobs))
        return columns

    def _score(self) -> list[_Column]:
        columns = [
            _Column("tokens", pa.int64(), _of_score(lambda score: score.tokens)),
            _Column("logprob", pa.float64(), _of_score(lambda score: score.logprob)),
            _Column("perplexity", pa.float64(), _of_score(lambda score: score.perplexity)),
            _Column("prompt_tokens", pa.int64(), lambda row: row.prompt_tokens),
            _Column("error", pa.string(), lambda row: row.error),
        ]
        if self.logprobs != "none":
            floats = pa.list_(pa.float32())
            value = _of_score(lambda score: score.token_logprobs)
            columns.append(_Column("token_logprobs", floats, value))
        return columns


def _of_score(value: Callable[[Score], Any]) -> Callable[[OutputRow], Any]:
    return lambda row: None if row.score is None else value(row.score)


def _json_logprobs(row: OutputRow) -> str | None:
    if row.logprobs is None or isinstance(row.logprobs, str):
        return row.logprobs
    return json.dumps(row.logprobs)
