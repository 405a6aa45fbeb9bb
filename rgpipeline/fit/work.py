"""How much a job asks for: tokens to read and tokens to write, counted from its own input."""

from dataclasses import dataclass
from typing import Any

from rgpipeline.errors import RowError, UserError
from rgpipeline.plan import Plan, make_plan
from rgpipeline.records import Shard
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.worker.worker_setup import open_prompts

# Rows that are tokenized; the rest is taken to be like them. A thousand rows tell the mean of
# lengths that differ as much as texts do to a few percent.
_ROWS = 1024
_SHARDS = 16  # that they come from, at least


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of a whole job; exact if all its rows were counted."""

    rows: int
    rows_counted: int
    prompt_tokens: int
    completion_tokens: int  # at most: every sample runs to its max_tokens
    unlimited: bool  # some rows have no max_tokens, which are not in `completion_tokens`


def count_work(job: Job) -> Work:
    """Reads the job's input and tokenizes rows from all over it; writes nothing.

    A prompt that is sampled several times counts once: its state is copied.

    Raises:
      UserError: the input, its columns or the tokenizer can't be used.
    """
    options = resolve_options(job.storage_options)
    plan = make_plan(job)
    prompts = open_prompts(job, plan, options)
    counter = _Counter(prompts)
    shards = max(_SHARDS, _ROWS * len(plan.shards) // max(1, plan.rows))
    chosen = plan.shards[:: max(1, len(plan.shards) // shards)]
    for shard in chosen:
        counter.add(plan, shard, options, -(-_ROWS // len(chosen)))
    if not counter.rows:
        raise UserError(f"no row of the input can be used; the first fault: {counter.fault}")
    scale = plan.rows / counter.rows
    return Work(
        rows=plan.rows,
        rows_counted=counter.rows,
        prompt_tokens=round(counter.prompt_tokens * scale),
        completion_tokens=round(counter.completion_tokens * scale),
        unlimited=counter.unlimited,
    )


class _Counter:
    """Tokens of the rows looked at so far."""

    def __init__(self, prompts: Prompts) -> None:
        self.rows = self.prompt_tokens = self.completion_tokens = 0
        self.unlimited = False
        self.fault = ""
        self._prompts = prompts

    def add(self, plan: Plan, shard: Shard, options: dict[str, dict[str, Any]], most: int) -> None:
        """Counts up to `most` rows, evenly spread over the shard."""
        input = plan.read(shard, options)
        for row in range(0, shard.rows, -(-shard.rows // most)):
            try:
                self._add_row(input.values(row))
            except RowError as error:
                self.fault = self.fault or str(error)

    def _add_row(self, values: dict[str, Any]) -> None:
        prompt = self._prompts.make(values)
        scored = self._prompts.completion(values)
        self.rows += 1
        self.prompt_tokens += len(prompt.tokens) + len(scored)
        if prompt.sampling.max_tokens is None:
            self.unlimited = True
        else:
            self.completion_tokens += prompt.sampling.n * prompt.sampling.max_tokens
