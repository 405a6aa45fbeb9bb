"""Whether weights, tokenizer and chat template are there and go together."""

from collections.abc import Iterator

from rgpipeline.errors import RgpipelineError
from rgpipeline.model.chips import Chips
from rgpipeline.model.opening import open_checkpoint
from rgpipeline.model.sharding import check_model
from rgpipeline.plan import Plan
from rgpipeline.spec import Job, Sampling
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.worker.worker_setup import open_prompts


def model_findings(job: Job, plan: Plan | None) -> tuple[list[str], list[str]]:
    """What is wrong with the model, and what to know of it: faults and warnings.

    Reads no more of it than headers and small files.
    """
    options = resolve_options(job.storage_options)
    faults: list[str] = []
    warnings: list[str] = []
    vocab_size = None
    try:
        config, _, _, note = open_checkpoint(job.model.weights, options, compare=False)
        vocab_size = config.vocab_size
        warnings += [f"{job.model.weights}: {note}"] if note else []
        check_model(config, Chips(model=job.workers.mesh.model), "workers.mesh")
    except RgpipelineError as error:
        faults.append(str(error))
    if plan is not None and (vocab_size is not None or job.model.tokenizer is not None):
        try:
            prompts = open_prompts(job, plan, options)
            if vocab_size is not None:
                prompts.require_known_ids(vocab_size)
        except RgpipelineError as error:
            faults.append(str(error))
    if vocab_size is not None:
        faults += _ids_outside(job.sampling, vocab_size)
    return faults, warnings


def _ids_outside(sampling: Sampling, vocab_size: int) -> Iterator[str]:
    for field, ids in (("stop_ids", sampling.stop_ids), ("logit_bias", sampling.logit_bias)):
        outside = [token for token in ids if not 0 <= token < vocab_size]
        if outside:
            yield (
                f"sampling.{field}: {outside[0]} is no token id; the model has {vocab_size:,} "
                f"(0 to {vocab_size - 1})"
            )
