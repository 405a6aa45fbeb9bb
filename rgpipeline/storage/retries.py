"""Errors of stores: whose fault they are, which are worth another try, and trying again.

Every client (s3fs, gcsfs, huggingface_hub, aiohttp) has exceptions of its own. The functions here
are the only place that knows them.
"""

import errno
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from rgpipeline.errors import RgpipelineError, StoreError, StoreFullError, UserError

T = TypeVar("T")

_CHECK = "check permissions, the credentials in the environment and storage_options"
_HUB_NAME = re.compile(r"hf://([^/@]+/[^/@]+)")

# Another try mends none of these. s3fs and gcsfs use the same types for what they translate.
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
_CLIENTS = {
    *("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "requests", "urllib3"),
    *("httpcore", "httpx", "httpx2", "huggingface_hub"),
}
# Names of clients' exceptions for addresses and options that can't be used.
_UNUSABLE_NAMES = {"InvalidURL", "OfflineModeIsEnabled", "ParamValidationError", "ProfileNotFound"}
_LASTING_NAMES = _UNUSABLE_NAMES | {  # those that another try doesn't mend
    "NoCredentialsError",
    "PartialCredentialsError",
    "DefaultCredentialsError",
    "LocalTokenNotFoundError",
    "NonRetryableError",
}
_PASSING_STATUS = {408, 409, 429}


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    if isinstance(error, _LASTING_TYPES) or type(error).__name__ in _LASTING_NAMES:
        return False
    if _why_full(error) or is_forbidden(error):
        return False
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUS
    if isinstance(error, OSError):
        return error.errno not in _LASTING_ERRNOS
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, TimeoutError | EOFError) or module in _CLIENTS


def is_forbidden(error: BaseException) -> bool:
    """Whether the store refused the caller: wrong credentials, or none, or too few rights."""
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return True
    if type(error) is OSError and error.errno is None:  # gcsfs, for status 403
        return str(error).startswith("Forbidden")
    return status_of(error) in (401, 403)


def is_unusable(error: BaseException) -> bool:
    """Whether the client refused the address or its options, and asked no store."""
    return type(error).__name__ in _UNUSABLE_NAMES


def is_gated(error: BaseException) -> bool:
    """Whether the Hub asks for a licence to be accepted first."""
    return any(type(cause).__name__ == "GatedRepoError" for cause in causes(error))


def translate_error(what: str, error: Exception, fault: type[UserError]) -> RgpipelineError:
    """What to raise for a lasting error of a store; our own errors are returned as they are.

    Args:
        what: What was done, or the address.
        error: What the store's client raised.
        fault: The class of error where the person who runs the job can mend it.
    """
    if isinstance(error, RgpipelineError):
        return error
    if why := _why_full(error):
        return StoreFullError(f"{what}: {why} and run the same job again, it goes on from here")
    text = " ".join(str(error).split())[:300]
    if is_gated(error):
        name = _HUB_NAME.search(what)
        return fault(
            f"{what}: a gated model: accept its licence on "
            f"https://huggingface.co/{name[1] if name else 'OWNER/NAME'}, and set HF_TOKEN (for "
            f"the driver and every worker) to a token of the account that accepted it; tokens are "
            f"made on https://huggingface.co/settings/tokens"
        )
    if isinstance(error, FileNotFoundError):
        return fault(f"{what}: no such file")
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return fault(f"{what}: there is a file where a folder is needed ({text})")
    if is_forbidden(error):
        return fault(f"{what}: not allowed ({text}); {_CHECK}")
    if type(error).__name__ == "OfflineModeIsEnabled":
        return fault(
            f"{what}: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it, or download the "
            f"files (hf download OWNER/NAME --local-dir FOLDER, with --repo-type dataset for a "
            f"dataset) and name that folder"
        )
    if isinstance(error, TypeError | ValueError) or is_unusable(error):
        return fault(f"{what}: cannot be opened ({text}); check the address and storage_options")
    return StoreError(f"{what} failed ({type(error).__name__}: {text})")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, back to the first, each once."""
    seen: set[int] = set()  # an error may be its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a client's exception, None when it carries none."""
    response = getattr(error, "response", None)
    names = ((error, "status"), (error, "code"), (response, "status_code"))
    found = (getattr(holder, name, None) for holder, name in names)
    return next((int(s) for s in found if isinstance(s, int | str) and str(s).isdigit()), None)


def _why_full(error: BaseException | None) -> str:
    """Why the store takes no more, and what to do about it; empty for any other error."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in _FULL_ERRNOS:
            return _FULL_ERRNOS[cause.errno]
        response = getattr(cause, "response", None)
        answer = response.get("Error", {}) if isinstance(response, dict) else {}
        if answer.get("Code") in _FULL_CODES or status_of(cause) == 507:
            return _FULL_STORE
    return ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off with jitter, up to a deadline.

    `jitter` returns numbers in [0, 1). It spreads pauses over their upper half, so that workers
    that failed together don't try again together.
    """

    deadline_s: float = 180.0
    first_s: float = 0.1
    longest_s: float = 10.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    noticed: Callable[[Exception], None] = lambda error: None  # called for each transient error

    def call(self, what: str, action: Callable[[], T]) -> T:
        """The result of `action()`, repeated while its errors are transient.

        `what` names the action in messages: "writing s3://…/part". Raises StoreError when the
        deadline has passed; a lasting error is raised at once, as it is.
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

    def read(self, url: str, action: Callable[[], T], fault: type[UserError]) -> T:
        """`call`, for reading `url`; a lasting error is raised as `translate_error` says."""
        what = f"reading {url}"
        try:
            return self.call(what, action)
        except RgpipelineError:
            raise
        except Exception as error:
            raise translate_error(what, error, fault) from error


def brief(error: BaseException) -> str:
    """An error's kind and text on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
