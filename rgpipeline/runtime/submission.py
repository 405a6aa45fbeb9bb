"""`submit`: runs a job on another cluster, through Ray Jobs.

Sent are the resolved job, without secrets (`${NAME}` is replaced on the cluster, from its own
environment), and this package, so that the cluster runs the code that has checked the job. The
packages that it imports must be installed on the cluster.

The package is sent as a folder, which Ray names by its content. A wheel would be worse: every host
would `pip install` it with its dependencies, over the jax that was chosen for its chips, and Ray
would take two builds of one version for the same.
"""

import asyncio
import json
import logging
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from rgpipeline.addresses import DEMO
from rgpipeline.errors import JobError, UserError, WorkerError
from rgpipeline.jobfile import load_job
from rgpipeline.runtime.ray_internals import enable_token_auth
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import protocol_of

_CHATTY = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_RETRY_S, _RETRIES = 2.0, 30

# Ray runs this in a shell whose parent is one of its workers. The path from which that worker has
# loaded Ray's library gives its interpreter. The shell's own `python3` may be another one: Ray may
# have been started from an environment that isn't activated.
_ENTRYPOINT = r"""
library='^[^/]*\(/.*\)/lib/python[0-9.]*/[a-z]*-packages/ray/_raylet[.]so$'
python=$(sed -n "s|$library|\1/bin/python3|p" "/proc/$PPID/maps" | head -n 1)
[ -x "$python" ] || python=python3
exec "$python" -m rgpipeline run job.yaml
"""

Echo = Callable[[str], None]


def submit(
    job_path: str | Path, overrides: Sequence[str], address: str, *, wait: bool, echo: Echo
) -> int:
    """Checks a job here and has a cluster run it; returns the exit code.

    Args:
      job_path: the job file.
      overrides: `key.sub=value`.
      address: the cluster's dashboard, `http://HOST:8265`.
      wait: follow the driver's output to its end and return the driver's exit code.
      echo: is called with each line to print.

    Raises:
      UserError: the job file is faulty, names files of this machine, or nothing answers.
    """
    job = load_job(job_path, overrides)
    _require_reachable_paths(job)
    client = _connect(address)
    submission = f"{job.name}-{uuid.uuid4().hex[:8]}"
    _hand_over(client, submission, job)
    echo(f"submitted as {submission}; its rows go to {job.output.path}")
    if not wait:
        echo(f"  rgpipeline status {job.output.path}   how it stands")
        echo(f"  rgpipeline stop {job.output.path}   to stop it gently")
        return 0
    return _follow(client, submission, job, echo)


def _connect(address: str) -> JobSubmissionClient:
    url = address if "://" in address else f"http://{address}"
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    enable_token_auth()
    try:
        return JobSubmissionClient(url)
    except AuthenticationError as error:
        raise UserError(
            f"--address {address}: the cluster wants a token; put what `ray get-auth-token` "
            f"prints on its head into RAY_AUTH_TOKEN here, and set RAY_AUTH_MODE=token"
        ) from error
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--address {address}: no Ray dashboard that takes jobs answers there ({reason}); it "
            f"listens on port 8265 of the cluster's head"
        ) from error


def _require_reachable_paths(job: Job) -> None:
    """Raises JobError for relative local paths, which mean nothing on another machine."""
    bad = [
        f"{key}: {path}"
        for key, path in job.urls()
        if path != DEMO and protocol_of(path) == "file" and not _absolute(path)
    ]
    if bad:
        raise JobError(
            "not to be found on a cluster:\n  "
            + "\n  ".join(bad)
            + "\nName an object store (gs://, s3://), or the absolute path of a disk that all "
            "hosts share"
        )


def _absolute(path: str) -> bool:
    return Path(re.sub(r"^(file|local)://", "", path)).is_absolute()


def _hand_over(client: JobSubmissionClient, submission: str, job: Job) -> None:
    """Sends the job; retries for a while, since a head that has just started takes none yet."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.yaml").write_text(json.dumps(job.model_dump(mode="json"), indent=1))
        for attempt in range(_RETRIES):
            try:
                client.submit_job(
                    entrypoint=_ENTRYPOINT,
                    submission_id=submission,
                    runtime_env={
                        "working_dir": folder,
                        "py_modules": [str(files("rgpipeline"))],
                        "excludes": ["__pycache__"],  # it would change the content's hash
                    },
                    metadata={"output": job.output.path},
                )
                return
            except (OSError, RuntimeError) as error:
                if "try again later" not in str(error) or attempt == _RETRIES - 1:
                    reason = " ".join(str(error).split())[:400]
                    raise WorkerError(f"the cluster did not take the job: {reason}") from error
            time.sleep(_RETRY_S)


def _follow(client: JobSubmissionClient, submission: str, job: Job, echo: Echo) -> int:
    try:
        asyncio.run(_tail(client, submission, echo))
    except KeyboardInterrupt:
        echo(f"no longer following {submission}, which goes on; to stop it:")
        echo(f"  rgpipeline stop {job.output.path}")
        return 130
    return _exit_code(client, submission, echo)


async def _tail(client: JobSubmissionClient, submission: str, echo: Echo) -> None:
    """Shows the driver's output as it comes; continues after a lost connection."""
    shown = 0  # characters
    for _ in range(_RETRIES):
        seen = 0
        try:
            async for piece in client.tail_job_logs(submission):
                fresh = piece[max(0, shown - seen) :]
                seen += len(piece)
                shown = max(shown, seen)
                for line in fresh.splitlines():
                    echo(line)
        except (ConnectionError, OSError, RuntimeError):
            pass
        if _ended(client, submission) is not None:
            return
        await asyncio.sleep(_RETRY_S)


def _ended(client: JobSubmissionClient, submission: str) -> JobDetails | None:
    """What the cluster says of a job that has ended; None before, or where it doesn't answer."""
    try:
        details = client.get_job_info(submission)
    except (OSError, RuntimeError):  # requests' ConnectionError is an OSError, not Python's own
        return None
    return details if details.status.is_terminal() else None


def _exit_code(client: JobSubmissionClient, submission: str, echo: Echo) -> int:
    """The driver's exit code, where it has one."""
    for _ in range(_RETRIES):
        details = _ended(client, submission)
        if details is not None:
            break
        time.sleep(_RETRY_S)
    else:
        echo(f"{submission}: the cluster no longer answers; `rgpipeline status` says more")
        return 1
    if details.driver_exit_code is not None:
        return int(details.driver_exit_code)
    if details.status != JobStatus.SUCCEEDED:
        echo(f"{submission}: {details.status.value.lower()}: {details.message}")
        return 1
    return 0
