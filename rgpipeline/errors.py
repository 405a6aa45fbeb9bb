"""Every error rgpipeline raises on purpose.

    RgpipelineError
    ├── UserError            the person's mistake: one clear message, exit code 2, no traceback
    │   ├── JobError         the job file: every fault found, in one message
    │   ├── InputError       the prompts: missing files, missing columns, unreadable files
    │   ├── WeightsError     the model: not Griffin, missing or misshapen tensors
    │   │   └── NoFolderError    there is no folder at the address
    │   └── OutputError      the output folder: another job's, changed inputs, unusable store
    ├── RowError             one row can't be done: becomes that row's `error`, never the job's
    ├── StoreError           an object store failed after every retry; running again resumes
    │   └── StoreFullError   nothing more can be written: disk full, quota used up, read-only
    ├── WorkerError          a worker could not start or died too often: exit code 1
    └── Interrupted          stopped by a signal or by `rgpipeline stop`: exit code 130

Messages say what was wrong, where (file, row, field) and what to do about it.
"""

import sys


class RgpipelineError(Exception):
    """Base of all errors raised on purpose; its message is for a person."""

    exit_code = 1


class UserError(RgpipelineError):
    """Something that the person running the job can mend; shown without a traceback."""

    exit_code = 2


class JobError(UserError):
    """A job file, or an override of it, is not valid."""


class InputError(UserError):
    """The prompts cannot be read as the job file says."""


class WeightsError(UserError):
    """The checkpoint or tokenizer cannot be used."""


class NoFolderError(WeightsError):
    """There is no folder at an address of weights."""


class OutputError(UserError):
    """The output folder cannot be used for this job."""


class RowError(RgpipelineError):
    """One row cannot be done; the message becomes the row's `error` column."""


class StoreError(RgpipelineError):
    """A file store failed after all retries; what was committed before is safe."""


class StoreFullError(StoreError):
    """Nothing more can be written to a store: it is full, over its quota, or read-only."""


class WorkerError(RgpipelineError):
    """Workers cannot run this job; the message is the worker's."""


class Interrupted(RgpipelineError):  # noqa: N818 - what happened, not a fault
    """Stopped on request; running the same job again resumes it."""

    exit_code = 130


def missing_package(error: ModuleNotFoundError) -> str | None:
    """The message for a package that isn't installed; None if the module is one of ours."""
    name = (error.name or "").partition(".")[0]
    if not name or name == "rgpipeline":
        return None
    return (
        f"{sys.executable} lacks the package {name!r}, which rgpipeline needs; install rgpipeline "
        f"with its dependencies there ({sys.executable} -m pip install rgpipeline), or use the "
        f"Python of an environment that has them"
    )
