"""Trying again: which errors are worth it, how long the pauses are, when it ends."""

import errno
import json
from collections.abc import Callable

import aiohttp
import botocore.exceptions
import gcsfs.retry
import pytest
import s3fs.errors
from hypothesis import given
from hypothesis import strategies as st

from rgpipeline.errors import InputError, StoreError
from rgpipeline.storage.retries import Retry, is_forbidden, is_transient


class Clock:
    """Virtual time: sleeping is what makes it pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def retry(self, jitter: Callable[[], float], **options: float) -> Retry:
        return Retry(clock=lambda: self.now, sleep=self.sleep, jitter=jitter, **options)


def failing(times: int) -> Callable[[], str]:
    left = [ConnectionResetError("reset by peer")] * times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


def s3(code: str) -> BaseException:
    """What s3fs makes of an error code of S3's."""
    answer = {"Error": {"Code": code, "Message": code}}
    error = botocore.exceptions.ClientError(answer, "PutObject")
    translated: BaseException = s3fs.errors.translate_boto_error(error)
    return translated


def gcs(status: int, message: str = "") -> BaseException:
    """What gcsfs makes of a status of Google's."""
    body = json.dumps({"error": {"code": status, "message": message}})
    try:
        gcsfs.retry.validate_response(status, body, "path")
    except Exception as error:
        return error
    raise AssertionError("no error")


def test_pauses_double_up_to_the_longest() -> None:
    clock = Clock()
    retry = clock.retry(jitter=lambda: 1.0, first_s=1.0, longest_s=8.0, deadline_s=100.0)
    assert retry.call("x", failing(6)) == "done"
    assert clock.pauses == [1, 2, 4, 8, 8, 8]


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 5))
def test_jitter_spreads_pauses_over_their_upper_half(jitter: float, failures: int) -> None:
    clock = Clock()
    clock.retry(jitter=lambda: jitter, first_s=1.0, longest_s=64.0).call("x", failing(failures))
    for number, pause in enumerate(clock.pauses):
        assert 0.5 * 2**number <= pause <= 2**number


def test_past_the_deadline_the_error_says_what_and_for_how_long() -> None:
    clock = Clock()
    retry = clock.retry(jitter=lambda: 1.0, first_s=1.0, deadline_s=10.0)
    with pytest.raises(StoreError) as raised:
        retry.call("writing s3://b/part", failing(1000))
    assert str(raised.value) == (
        "writing s3://b/part has failed for 10 s (ConnectionResetError: reset by peer); what was "
        "published is safe: run the same job again once the store answers"
    )
    assert clock.now <= 10.0


def test_a_lasting_error_passes_at_once_as_it_is() -> None:
    clock = Clock()

    def denied() -> None:
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        clock.retry(jitter=lambda: 1.0).call("x", denied)
    assert clock.pauses == []


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        OSError("Connection closed"),
        OSError(errno.EIO, "x"),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://h"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://h"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
        *map(s3, ["SlowDown", "InternalError", "503", "500", "RequestTimeout", "409"]),
        s3("ConditionalRequestConflict"),
        *map(gcs, [500, 502, 503, 429, 408]),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(error: BaseException) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        *(OSError(number, "x") for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)),
        *map(s3, ["XMinioStorageFull", "QuotaExceeded", "507"]),
        gcs(507),
        ValueError("ours"),
        KeyError("ours"),
        botocore.exceptions.NoCredentialsError(),
        *map(s3, ["NoSuchBucket", "AccessDenied", "PreconditionFailed", "PermanentRedirect"]),
        *map(s3, ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "NotImplemented"]),
        *map(gcs, [400, 401, 403, 404, 412]),
    ],
    ids=repr,
)
def test_what_lasts_is_not(error: BaseException) -> None:
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(), True),
        (botocore.exceptions.NoCredentialsError(), True),
        (s3("AccessDenied"), True),
        (s3("InvalidAccessKeyId"), True),
        (gcs(401, "Anonymous caller does not have access"), True),
        (gcs(403), True),
        (s3("NoSuchBucket"), False),
        (gcs(503), False),
        (OSError("Connection closed"), False),
    ],
    ids=repr,
)
def test_refusals_are_told_from_other_failures(error: BaseException, expected: bool) -> None:
    assert is_forbidden(error) == expected


def test_an_error_that_is_its_own_cause_is_lasting() -> None:
    error = InputError("a.parquet: empty")
    error.__cause__ = error
    assert not is_transient(error)
