"""Check that every remote store answers before starting.

Clients try again for minutes. That suits a store that fails in the middle of a job. Before a job
has started a wrong address is more likely, and a person waits for the message.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

from rgpipeline.errors import StoreError
from rgpipeline.storage.filesystems import (
    StorageOptions,
    keywords_for,
    open_filesystem,
    protocol_of,
    resolve_options,
)
from rgpipeline.storage.retries import Retry, causes, is_transient, status_of

PATIENCE_S = 15.0  # for all stores together
_REMOTE = {"s3", "gs", "http", "https", "hf"}
_CONNECT_S = 2.0
_ENVIRONMENT = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("STORAGE_EMULATOR_HOST",),
}


def check_reachable(urls: Iterable[str | None], options: StorageOptions | None) -> None:
    """Raises StoreError naming every store behind `urls` that gives no answer in time.

    Any answer is enough, also a refusal: the first real request will report that. Local paths,
    other kinds of stores, and None are skipped.
    """
    resolved = resolve_options(options)
    probes = [_Probe(url, resolved) for url in _one_of_each(filter(None, urls))]
    deadline = time.monotonic() + PATIENCE_S
    silent = [p for p in probes if not p.answered.wait(max(0.0, deadline - time.monotonic()))]
    if silent:
        raise StoreError("\n".join(probe.fault() for probe in silent))


class _Probe:
    """One small request, in a thread that may never come back."""

    def __init__(self, url: str, options: StorageOptions) -> None:
        self.answered = Event()
        self._url = url
        self._options = options
        self._last = ""  # the client's latest error, if it has raised one
        Thread(target=self._ask, name="reachable", daemon=True).start()

    def fault(self) -> str:
        """The message for a store that has not answered in time."""
        protocol = protocol_of(self._url)
        endpoint = _endpoint(protocol, self._options)
        who = f"the store at {endpoint} does" if endpoint else "its store does"
        why = self._last or (_try_to_connect(endpoint) if endpoint else "not a word")
        there = f"storage_options.{protocol}.endpoint_url, " if endpoint else ""
        return (
            f"{self._url}: {who} not answer ({why}; tried for {PATIENCE_S:g} s); check "
            f"{there}the network, and that the store is up"
        )

    def _ask(self) -> None:
        retry = Retry(PATIENCE_S, noticed=self._notice)
        # Any other error comes from the client or the store: the first real request meets it too.
        with suppress(Exception):
            try:
                retry.call(self._url, self._request)
            except StoreError:
                return
        self.answered.set()

    def _notice(self, error: Exception) -> None:
        self._last = str(error)

    def _request(self) -> None:
        filesystem, path = open_filesystem(self._url, self._options)
        try:
            filesystem.info(path)
        except Exception as error:
            silence = _cause_of_silence(error)
            if silence is not None:
                raise ConnectionError(" ".join(str(silence).split())) from error


def _cause_of_silence(error: BaseException) -> BaseException | None:
    """The first cause, if no answer came; None if the store answered, with a status.

    The cause decides, because fsspec reports a file as absent if its web server is silent.
    """
    first = error
    for first in causes(error):
        response = getattr(first, "response", None)  # a mapping: botocore's
        if isinstance(response, Mapping) or status_of(first) is not None:
            return None
    return first if is_transient(first) else None


def _one_of_each(urls: Iterable[str]) -> Iterator[str]:
    """One URL for each bucket or server."""
    seen = set()
    for url in urls:
        bucket = protocol_of(url), url.partition("://")[2].partition("/")[0]
        if bucket[0] in _REMOTE and bucket not in seen:
            seen.add(bucket)
            yield url


def _endpoint(protocol: str, options: StorageOptions) -> str:
    """Where requests go, if options or environment say so; else empty."""
    keywords: Mapping[str, Any] = keywords_for(protocol, options)
    inner: Mapping[str, Any] = keywords.get("client_kwargs") or {}
    found = [keywords.get("endpoint_url"), inner.get("endpoint_url")]
    found += [os.environ.get(name) for name in _ENVIRONMENT.get(protocol, ())]
    return next((str(where) for where in found if where), "")


def _try_to_connect(endpoint: str) -> str:
    """What happens to a plain connection there."""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        address = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        with socket.create_connection(address, _CONNECT_S):
            return "it takes connections and sends nothing back"
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
