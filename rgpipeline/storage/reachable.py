"""The first word with a store: one that gives none is told of within seconds.

Clients try again for minutes, which suits a store that goes away in the midst of a job. Before
anything has begun it is more likely the address that is wrong, and a person waits.
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
from rgpipeline.storage.retries import Retry, causes, is_transient

PATIENCE_S = 15.0
_REMOTE = {"s3", "gs", "http", "https", "hf"}
_LOOK_S = 2.0
_ENVIRONMENT = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("STORAGE_EMULATOR_HOST",),
}


def check_reachable(urls: Iterable[str | None], options: StorageOptions | None) -> None:
    """Raises StoreError naming every store behind `urls` that gives no answer in time.

    Any answer will do, a refusal too: what it says is for whoever comes with a real question.
    Local paths, stores of other kinds, and None are passed over.
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
        self._last = ""  # what went wrong, where the client has said so
        Thread(target=self._ask, name="contact", daemon=True).start()

    def fault(self) -> str:
        """The message, once it has been waited for."""
        protocol = protocol_of(self._url)
        where = _endpoint(protocol, self._options)
        who = f"the store at {where} does" if where else "its store does"
        why = self._last or (_heard_from(where) if where else "not a word")
        there = f"storage_options.{protocol}.endpoint_url, " if where else ""
        return (
            f"{self._url}: {who} not answer ({why}; tried for {PATIENCE_S:g} s); check "
            f"{there}the network, and that the store is up"
        )

    def _ask(self) -> None:
        retry = Retry(PATIENCE_S, noticed=self._notice)
        # What else goes wrong is the client's or the store's own word, and will be met again.
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
            silence = _silence(error)
            if silence is not None:
                raise ConnectionError(" ".join(str(silence).split())) from error


def _silence(error: BaseException) -> BaseException | None:
    """The first cause, if no answer came; None when the store itself said so, with a status.

    The cause decides: fsspec calls a silent web server's file absent.
    """
    first = error
    for first in causes(error):
        if isinstance(getattr(first, "response", None), Mapping):  # botocore
            return None
        if isinstance(getattr(first, "status", getattr(first, "code", None)), int):
            return None
    return first if is_transient(first) else None


def _one_of_each(urls: Iterable[str]) -> Iterator[str]:
    """One URL for each bucket or server."""
    seen = set()
    for url in urls:
        place = protocol_of(url), url.partition("://")[2].partition("/")[0]
        if place[0] in _REMOTE and place not in seen:
            seen.add(place)
            yield url


def _endpoint(protocol: str, options: StorageOptions) -> str:
    """Where requests go, if the person has said so."""
    keywords: Mapping[str, Any] = keywords_for(protocol, options)
    inner: Mapping[str, Any] = keywords.get("client_kwargs") or {}
    said = [keywords.get("endpoint_url"), inner.get("endpoint_url")]
    said += [os.environ.get(name) for name in _ENVIRONMENT.get(protocol, ())]
    return next((str(where) for where in said if where), "")


def _heard_from(endpoint: str) -> str:
    """What happens to a plain connection there."""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        address = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        with socket.create_connection(address, _LOOK_S):
            return "it takes connections and sends nothing back"
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
