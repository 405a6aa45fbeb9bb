"""`task: generate`: continues prompts, and writes the completions."""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rgpipeline.io.parts import ERROR, PROMPT_TOKENS, SEGMENT_COLUMNS, Column
from rgpipeline.read_texts import ReadText
from rgpipeline.records import OutputRow, Request, draw_words
from rgpipeline.spec import Job, Sampling
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, RowWork, SequenceWork, Task
from rgpipeline.text.completion import CompletionState, CompletionText, NoText, SequenceText
from rgpipeline.text.tokenizer import Tokenizer


class GenerateTask(Task):
    """Each sample of a row is a sequence in a slot, published in segments.

    Columns: id, sample, segment, completion, finish_reason, prompt_tokens, completion_tokens,
    error; then, where asked, completion_ids (list<int32>), logprobs, state, messages. `logprobs` is
    list<float32>, of the sampled tokens, for `sampling.logprobs: 1`. With more it is JSON text,
    for it holds the most probable tokens too, or, for OpenAI batch files, the tokens' texts.
    """

    name = "generate"
    done = "generated"
    token_column = "completion_tokens"
    uses_slots = True
    writes_texts = True
    sampling_keys = tuple(Sampling.model_fields)

    def columns(self, job: Job) -> list[Column]:
        columns = [
            *SEGMENT_COLUMNS,
            Column("completion", pa.large_string(), lambda row: row.completion),
            Column("finish_reason", pa.string(), lambda row: row.finish_reason),
            PROMPT_TOKENS,
            Column("completion_tokens", pa.int64(), lambda row: row.completion_tokens),
            ERROR,
        ]
        if job.output.token_ids:
            ids = pa.list_(pa.int32())
            columns.append(Column("completion_ids", ids, lambda row: row.completion_ids))
        if job.sampling.logprobs == 1 and job.input.format != "openai-batch":
            floats = pa.list_(pa.float32())
            columns.append(Column("logprobs", floats, lambda row: row.logprobs))
        elif may_have_logprobs(job):
            columns.append(Column("logprobs", pa.string(), _json_logprobs))
        if job.output.states:
            columns.append(Column("state", pa.string(), lambda row: row.state))
        if job.output.messages:
            message = pa.struct([("role", pa.string()), ("content", pa.large_string())])
            columns.append(Column("messages", pa.list_(message), lambda row: row.messages))
        return columns

    def work(self, row: RowLabel, values: Mapping[str, Any], prompts: Prompts) -> list[RowWork]:
        prompt = prompts.make(values)
        requests = sample_requests(
            *(prompt.to_read(), prompt.sampling, row.id, map(row.key, count())),
            prompt.start,
            prompts.keep_states or bool(prompt.chat and prompt.chat.later),
            prompt.in_turn,
        )
        more = (None, prompt.start_bytes, prompt.chat, prompts.keep_states)
        return [SequenceWork(row, sample, one, *more) for sample, one in enumerate(requests)]


def sample_requests(
    tokens: NDArray[np.int32],
    sampling: Sampling,
    row_id: str,
    keys: Iterable[Hashable],
    start: ReadText | None = None,
    keep_read: bool = False,
    in_turn: bool = False,
) -> Iterator[Request]:
    """A request for each of a prompt's samples, with these keys; arguments as in `Request`."""
    for sample, key in zip(range(sampling.n), keys, strict=False):
        draw = draw_words(sampling.seed, row_id, sample)
        yield Request(
            *(key, tokens, sampling, draw), start=start, keep_read=keep_read, in_turn=in_turn
        )


def sequence_text(
    tokenizer: Tokenizer | None, sampling: Sampling, state: CompletionState | None = None
) -> SequenceText:
    """The text of a sequence, new or resumed; without a tokenizer there is none."""
    if tokenizer is None:
        return NoText()
    return CompletionText(tokenizer, sampling.stop, unmatched=sampling.min_tokens, state=state)


def may_have_logprobs(job: Job) -> bool:
    """Whether log-probabilities are asked for, by the job or by rows with their own sampling."""
    by_row = job.input.columns.sampling is not None or job.input.format == "openai-batch"
    return bool(job.sampling.logprobs) or by_row


def _json_logprobs(row: OutputRow) -> str | None:
    if row.logprobs is None or isinstance(row.logprobs, str):
        return row.logprobs
    return json.dumps(row.logprobs)
