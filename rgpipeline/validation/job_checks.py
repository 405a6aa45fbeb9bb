"""The checks of `validate`: the model, the output folder, the first rows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rgpipeline.errors import OutputError, RgpipelineError, RowError
from rgpipeline.model.mesh_shapes import check_model
from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.model_source import source_of
from rgpipeline.plan import Plan
from rgpipeline.plan.plan_files import check_folder, require_usable
from rgpipeline.spec import Job, Sampling
from rgpipeline.storage.filesystems import protocol_of
from rgpipeline.storage.store import Store
from rgpipeline.tasks import task_of
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel
from rgpipeline.text.grammars import TextGrammars
from rgpipeline.text.stops import never_found
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.validation.first_rows import first_prompts
from rgpipeline.validation.templated_prompts import templated_warnings
from rgpipeline.wording import count
from rgpipeline.worker.worker_setup import open_prompts, require_grammar

_SHOWN = 3


class ModelFindings(NamedTuple):
    """What is known of a job's model once its small files are read."""

    faults: list[str]
    warnings: list[str]
    prompts: Prompts | None = None  # None without a plan, or where they can't be made


def model_findings(job: Job, plan: Plan | None) -> ModelFindings:
    """Faults and warnings about the model, its tokenizer and its chat template.

    Reads only the weights' headers and small files.
    """
    faults: list[str] = []
    warnings: list[str] = []
    vocab_size = prompts = None
    try:
        source = source_of(job)
    except RgpipelineError as error:
        return ModelFindings([str(error)], [])
    try:
        config, _, _, note = open_checkpoint(source, compare=False)
        vocab_size = config.vocab_size
        warnings += [f"{job.model.weights}: {note}"] if note else []
        check_model(config, job.workers.mesh.model, "workers.mesh")
    except RgpipelineError as error:
        faults.append(str(error))
    if plan is not None and (vocab_size is not None or job.model.tokenizer is not None):
        try:
            prompts = open_prompts(job, plan, source)
            if vocab_size is not None:
                prompts.require_known_ids(vocab_size)
                warnings += prompts.model_warnings(vocab_size)
                if (tokenizer := prompts.tokenizer) is not None:
                    ends = [tokenizer.eos_id]
                    require_grammar(job, TextGrammars(tokenizer, vocab_size, ends, prompts.check))
        except RgpipelineError as error:
            faults.append(str(error))
    if vocab_size is not None:
        faults += _ids_outside(job.sampling, vocab_size)
    return ModelFindings(faults, warnings, prompts)


def _ids_outside(sampling: Sampling, vocab_size: int) -> Iterator[str]:
    for field, ids in (("stop_ids", sampling.stop_ids), ("logit_bias", sampling.logit_bias)):
        outside = [token for token in ids if not 0 <= token < vocab_size]
        if outside:
            yield (
                f"sampling.{field}: {outside[0]} is no token id; the model has {vocab_size:,} "
                f"(0 to {vocab_size - 1})"
            )


def output_warnings(job: Job, store: Store) -> tuple[str, ...]:
    """The warnings that a run would give; raises the OutputError that it would raise.

    In a bucket, creates an object and removes it, to see whether that is allowed. Creates nothing
    on a disk.
    """
    warnings = check_folder(job, store)
    if protocol_of(job.output.path) == "file":
        _require_writable(store)
    else:
        require_usable(store)
    return warnings


def _require_writable(store: Store) -> None:
    folder = Path(store.url())
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{store.url()}: nothing can be written into {folder}; change its permissions, or "
            f"name another output.path"
        )


def row_warnings(job: Job, plan: Plan, prompts: Prompts) -> Iterator[str]:
    """Warns of stop strings that never match, and of the first rows that would fail."""
    yield from _stop_warnings(job, prompts.tokenizer)
    first, task = first_prompts(job, plan), task_of(job, plan.choices)
    input = first.input
    if prompts.tokenizer is not None:
        yield from templated_warnings(job, plan, prompts.tokenizer, first)
    bad: list[str] = []
    for row in range(first.rows):
        fault = input.faults.get(row)
        if fault is None:
            try:
                values = input.values(row)
                task.work(RowLabel(0, row, "", ""), values, prompts)
                prompts.row_id(values)
            except RowError as error:
                fault = str(error)
        if fault is not None:
            name, number = input.origin(row)
            bad.append(f"{name}, row {number:,}: {fault}")
    if bad:
        more = [f"… and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        yield (
            f"{count(len(bad))} of {first.name} would fail (rows are counted from 0):\n  "
            + "\n  ".join([*bad[:_SHOWN], *more])
        )


def _stop_warnings(job: Job, tokenizer: Tokenizer | None) -> Iterator[str]:
    if tokenizer is None:
        return
    for stop, name in never_found(job.sampling.stop, tokenizer):
        yield (
            f"sampling.stop: {stop!r} never ends a completion, for {name} is a token without "
            f"text; give {name!r} alone to stop at that token"
        )
