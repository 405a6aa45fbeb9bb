"""`task: embed`: embeddings of prompts."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rgpipeline.engine.text_requests import TextRequest, TextResult
from rgpipeline.errors import RowError
from rgpipeline.io.parts import ERROR, PROMPT_TOKENS, SEGMENT_COLUMNS, Column
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.spec.job_spec import EmbedSpec
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, RowWork, Task, TextWork


class EmbedTask(Task):
    """Pools the final hidden values of a prompt, those after the final norm.

    Columns: id, sample, segment, embedding (fixed-size list<float32> of the model's width), tokens,
    prompt_tokens, error. `tokens` are those that were read, BOS included: all of the prompt's.
    """

    name = "embed"
    done = "embedded"
    token_column = "tokens"
    uses_slots = False
    writes_texts = False
    sections = ("embed",)

    def __init__(self, embed: EmbedSpec) -> None:
        self._embed = embed

    def columns(self, job: Job) -> list[Column]:
        floats = pa.list_(pa.float32())
        return [
            *SEGMENT_COLUMNS,
            Column("embedding", floats, lambda row: row.result, one_length=True),
            Column("tokens", pa.int64(), lambda row: row.completion_tokens or None),
            PROMPT_TOKENS,
            ERROR,
        ]

    def work(self, row: RowLabel, values: Mapping[str, Any], prompts: Prompts) -> list[RowWork]:
        tokens = np.asarray(prompts.make(values).tokens, np.int32)
        request = TextRequest(row.key(), tokens, len(tokens), pooling=self._embed.pooling)
        return [TextWork(row, request, partial(_output_row, self._embed.normalize, len(tokens)))]


def embedding(pooled: TextResult, *, normalize: bool) -> NDArray[np.float32]:
    """A text's embedding, float32 [width]; of length 1 if it is normalized.

    Raises RowError when it isn't finite.
    """
    values = pooled.values
    assert values is not None, "the result is whole"
    length = np.sqrt(np.sum(np.square(values, dtype=np.float64)))
    if not np.isfinite(length):
        raise RowError(
            "the model gives no numbers for it: its hidden values are NaN or infinite; "
            "try model.dtype: float32, or check the weights"
        )
    return (values / length).astype(np.float32) if normalize and length else values


def _output_row(normalize: bool, tokens: int, row: RowLabel, pooled: TextResult) -> OutputRow:
    try:
        found = embedding(pooled, normalize=normalize)
    except RowError as error:
        return row.failed(str(error))
    return OutputRow(row.row, row.id, prompt_tokens=tokens, completion_tokens=tokens, result=found)
