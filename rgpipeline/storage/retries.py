"""Trying again: what is worth it, how often, and when to give up."""

import errno
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from rgpipeline.errors import StoreError

T = TypeVar("T")

# Trying again mends none of these. s3fs and gcsfs use the same types for what they translate.
_LASTING_TYPES = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
_LASTING_ERRNOS = {
    errno.EPERM,
    errno.EREMCHG,  # the bucket is in another region
    errno.EINVAL,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EFBIG,
    errno.EMSGSIZE,
    errno.ENAMETOOLONG,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.ELOOP,
}
_FULL_ERRNOS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the quota is used up; free some space or raise it",
    errno.EROFS: "the disk can only be read; make it writable",
}
_FULL_STORE = "the store is full; free some space or raise its quota"
_FULL_CODES = {  # of S3 servers: MinIO, Ceph; 507 is the HTTP status for it
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
    "InsufficientStorage",
    "507",
}
_CLIENTS = {"aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "requests", "urllib3"}
_LASTING_NAMES = {  # exceptions of those clients that no second try mends
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "ParamValidationError",
    "DefaultCredentialsError",
    "NonRetryableError",
    "InvalidURL",
}
_PASSING_STATUS = {408, 409, 429}


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed a little later."""
    if isinstance(error, _LASTING_TYPES) or type(error).__name__ in _LASTING_NAMES:
        return False
    if full(error) or is_forbidden(error):
        return False
    if isinstance(error, OSError):
        return error.errno not in _LASTING_ERRNOS
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUS
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, TimeoutError | EOFError) or module in _CLIENTS


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on to the first cause, each once."""
    seen: set[int] = set()  # an error that was raised from itself is its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def full(error: BaseException | None) -> str:
    """Why the store takes no more, and what to do about it; empty for any other error."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in _FULL_ERRNOS:
            return _FULL_ERRNOS[cause.errno]
        response = getattr(cause, "response", None)
        answer = response.get("Error", {}) if isinstance(response, dict) else {}
        if answer.get("Code") in _FULL_CODES or _status(cause) == 507:
            return _FULL_STORE
    return ""


def is_forbidden(error: BaseException) -> bool:
    """Whether the store refused the caller: wrong credentials, or none, or too few rights."""
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return True
    if type(error) is OSError and error.errno is None:  # gcsfs, for status 403
        return str(error).startswith("Forbidden")
    return _status(error) in (401, 403)


def _status(error: BaseException) -> int | None:
    """The HTTP status of a client's exception, which each client keeps under a name of its own."""
    for name in ("status", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int | str) and str(status).isdigit():
            return int(status)
    return None


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off with jitter, up to a deadline.

    `jitter` gives numbers in [0, 1); it spreads pauses over their upper half, so that workers
    who failed together don't come back together.
    """

    deadline_s: float = 180.0
    first_s: float = 0.1
    longest_s: float = 10.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    noticed: Callable[[Exception], None] = lambda error: None  # of every passing failure

    def call(self, what: str, action: Callable[[], T]) -> T:
        """`action()`, again while its errors are transient.

        `what` says it for a person: "writing s3://…/part". Raises StoreError when the deadline
        has passed; lasting errors pass through at once, as they are.
        """
        began = self.clock()
        pause = self.first_s
        while True:
            try:
                return action()
            except Exception as error:
                if not is_transient(error):
                    raise
                self.noticed(error)
                if self.clock() - began + pause > self.deadline_s:
                    raise StoreError(
                        f"{what} has failed for {self.deadline_s:g} s ({brief(error)}); what was "
                        f"published is safe: run the same job again once the store answers"
                    ) from error
            self.sleep(pause * (0.5 + 0.5 * self.jitter()))
            pause = min(2 * pause, self.longest_s)


def brief(error: BaseException) -> str:
    """An error's kind and text on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
