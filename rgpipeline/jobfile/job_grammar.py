"""The grammar of a job's own `sampling`: its schema is read from its file, and it is compiled."""

from contextlib import closing

from rgpipeline.errors import JobError, UserError
from rgpipeline.spec import Job, Sampling, StructuredOutputs, parsed_schema, schema_text
from rgpipeline.storage.filesystems import StorageOptions, resolve_options
from rgpipeline.storage.small_files import read_file
from rgpipeline.text.grammar_check import GrammarCheck


def with_grammar(job: Job) -> Job:
    """The job with its schema in place of the address of one.

    Raises JobError if there is none, or the grammar can't be compiled.
    """
    structured = job.sampling.structured_outputs
    if structured is None:
        return job
    if structured.address is not None:
        sampling = with_schema(job.sampling, resolve_options(job.storage_options))
        job = job.model_copy(update={"sampling": sampling})
        structured = sampling.structured_outputs
        assert structured is not None, "only its schema was replaced"
    with closing(GrammarCheck()) as check:
        refused = check.refusal(structured)
    if refused is not None:
        raise JobError(f"sampling.{refused}")
    return job


def with_schema(sampling: Sampling, options: StorageOptions | None) -> Sampling:
    """`sampling` with the schema from its file, if it names one. Raises JobError; StoreError."""
    structured = sampling.structured_outputs
    address = structured.address if structured is not None else None
    if address is None:
        return sampling
    schema = StructuredOutputs(json=_read(address, options))
    return sampling.model_copy(update={"structured_outputs": schema})


def _read(address: str, options: StorageOptions | None) -> str:
    key = "sampling.structured_outputs.json"
    try:
        data = read_file(address, options)
    except UserError as error:
        raise JobError(f"{key}: {error}") from error
    if data is None:
        raise JobError(
            f"{key}: there is no file {address}; give a schema as a section, as JSON text, or the "
            f"address of a file that has it"
        )
    try:
        return schema_text(parsed_schema(data.decode("utf-8-sig")))
    except ValueError as error:
        raise JobError(f"{key}: {address}: {error}") from None
