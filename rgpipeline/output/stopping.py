"""Asking a job's driver to stop, from anywhere that reaches its output."""

import json
import time
import uuid

from rgpipeline.output.dataset import open_job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.store import Store

STOP = "_rgp/stop"


def request_stop(url: str, storage_options: StorageOptions | None = None) -> None:
    """Has every driver that is at this job now publish what is finished and leave.

    A driver that begins later takes no notice. Reads no parts, so that a damaged one keeps nobody
    from stopping. Raises OutputError when `url` is no job's output.
    """
    store, _, _ = open_job(url, storage_options)
    asked = {"asked": time.time(), "id": uuid.uuid4().hex}
    store.replace(STOP, json.dumps(asked).encode())


def read_stop(store: Store) -> bytes | None:
    """The latest request, unlike any other; None when there is none."""
    try:
        return store.read(STOP)
    except FileNotFoundError:
        return None
