"""Warns of prompt texts to which a chat template seems to have been applied already.

Imports no jax: the driver looks at prompts, too.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from rgpipeline.errors import RowError
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.model.weights.model_source import source_of
from rgpipeline.plan import Plan
from rgpipeline.spec import Job
from rgpipeline.tasks import task_of
from rgpipeline.text.prompt_template import PromptTemplate
from rgpipeline.text.tokenizer import TURN_ENDS, TURN_STARTS, Tokenizer
from rgpipeline.validation.first_rows import FirstRows, first_prompts
from rgpipeline.wording import count


def prompt_warnings(job: Job, plan: Plan) -> Iterator[str]:
    """As `templated_warnings`, with the job's tokenizer. Raises WeightsError and StoreError."""
    if not _has_texts(job, plan):
        return
    source = source_of(job)
    tokenizer = Tokenizer.find(source.tokenizer, source.options)
    if tokenizer is not None:
        yield from templated_warnings(job, plan, tokenizer, first_prompts(job, plan))


def templated_warnings(
    job: Job, plan: Plan, tokenizer: Tokenizer, first: FirstRows
) -> Iterator[str]:
    """A warning if any of these rows' prompts looks as if it had been templated already.

    There is none once the job says how such texts are meant (`input.special_tokens`).
    """
    if not _has_texts(job, plan):
        return
    input, rows, among = first
    looked_for = _LookedFor.of(job, tokenizer)
    found = ((row, looked_for.in_prompt(job, plan, _values(input, row))) for row in range(rows))
    marks = [(row, mark) for row, mark in found if mark]
    if marks:
        row, mark = marks[0]
        name, number = input.origin(row)
        yield (
            f"{count(len(marks))} of {among} have a prompt that looks as if a chat template had "
            f"been applied already (the first: {name}, row {count(number)}, with {mark!r}); "
            f"{looked_for.advice({mark for _, mark in marks}, job)}"
        )


def _has_texts(job: Job, plan: Plan) -> bool:
    texts = plan.columns.prompt is not None or job.input.template is not None
    return texts and job.input.special_tokens == "auto"


def _values(input: InputRows, row: int) -> Mapping[str, Any] | None:
    """A row's values, None if it can't be read."""
    try:
        return None if row in input.faults else input.values(row)
    except RowError:
        return None


class _LookedFor(NamedTuple):
    """What templated prompts hold."""

    bos: str  # at their beginning
    reads_bos: bool  # whether the tokenizer reads it as BOS
    turns: tuple[str, ...]  # within them; none if the job itself cares for the beginning

    @classmethod
    def of(cls, job: Job, tokenizer: Tokenizer) -> "_LookedFor":
        bos = tokenizer.piece(tokenizer.bos_id)
        reads_bos = tokenizer.bos_id in tokenizer.encode(bos, bos=False)
        turns = TURN_STARTS if job.input.bos else ()
        known = tuple(turn for turn in turns if tokenizer.piece_to_id(turn) is not None)
        return cls(bos, reads_bos, known)

    def in_prompt(self, job: Job, plan: Plan, values: Mapping[str, Any] | None) -> str:
        """The first mark of a template in a row's prompt; empty if there is none.

        Turns that `input.template` writes itself are meant, and don't count.
        """
        try:
            parts = [] if values is None else _parts(job, plan, values)
        except RowError:
            return ""
        text = "".join(part for part, _ in parts)
        if text.lstrip().startswith(self.bos) and (self.turns or not self.reads_bos):
            return self.bos
        users = [part for part, user in parts if user]
        return next((turn for turn in self.turns if any(turn in part for part in users)), "")

    def advice(self, marks: Collection[str], job: Job) -> str:
        """What is made of prompts with these marks, and what to do."""
        ends = dict(zip(TURN_STARTS, TURN_ENDS, strict=True))
        end = next((ends[turn] for turn in self.turns), None)
        read = (
            f"{self.bos!r} is ordinary text in them, after a BOS of our own"
            if self.bos in marks and not self.reads_bos
            else "they are continued as they are, after one BOS"
        )
        runs_on = task_of(job).writes_texts and end and end not in job.sampling.stop
        stop = f", and sampling.stop: ['{end}']" if runs_on else ""
        return (
            f"{read}. Give chats as input.columns.messages; or, if these are whole prompts, set "
            f"input.special_tokens: parse (all control tokens count, after one BOS){stop}; or, if "
            f"they are texts about such tokens, set it to text (none of them counts)"
        )


def _parts(job: Job, plan: Plan, values: Mapping[str, Any]) -> list[tuple[str, bool]]:
    if job.input.template is not None:
        return PromptTemplate(job.input.template).parts(values)
    text = values[plan.columns.prompt or ""]
    return [(text, True)] if isinstance(text, str) else []
