"""Asking a job's driver to stop, from anywhere that reaches its output."""

import json
import time
import uuid

from rgpipeline.io.options import StorageOptions
from rgpipeline.io.store import Store, open_store
from rgpipeline.output.dataset import read_job_and_plan

STOP = "_rgp/stop"


def request_stop(url: str, storage_options: StorageOptions | None = None) -> None:
    """Has every driver that is at this job now publish what is finished and leave.

    A driver that begins later takes no notice. Raises OutputError when `url` is no job's output.
    """
    store = open_store(url, storage_options)
    read_job_and_plan(store)
    asked = {"asked": time.time(), "id": uuid.uuid4().hex}
    store.replace(STOP, json.dumps(asked).encode())


def read_stop(store: Store) -> bytes | None:
    """The latest request, unlike any other; None when there is none."""
    try:
        return store.read(STOP)
    except FileNotFoundError:
        return None
