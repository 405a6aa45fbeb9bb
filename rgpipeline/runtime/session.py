"""A Ray cluster to work on: the one that is there, or a small one of our own."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import ray
from ray._private import worker as ray_worker

from rgpipeline.errors import UserError

_log = logging.getLogger(__name__)

_OBJECT_STORE = 128 << 20  # bytes: only plans and jobs pass through it


@contextlib.contextmanager
def connected(address: str) -> Iterator[str]:
    """Connects to Ray, and yields its address or `local`.

    Args:
      address: `local` starts a cluster on this machine, gone at the end; `auto` takes the one
        that runs here (or that RAY_ADDRESS names), else starts one; anything else is an address.

    Raises:
      UserError: nothing answers at the address.
    """
    if ray.is_initialized():  # the caller's own; it is theirs to end
        yield ray.get_runtime_context().gcs_address
        return
    # Ray prints a page on every worker that dies, over whatever is on the terminal.
    printing, ray_worker.print_to_stdstream = ray_worker.print_to_stdstream, _log_instead
    try:
        yield _connect(address)
    finally:
        ray.shutdown()
        ray_worker.print_to_stdstream = printing


def _connect(address: str) -> str:
    if address in ("auto", "local"):
        if address == "auto" and _join("auto"):
            return str(ray.get_runtime_context().gcs_address)
        _start()
        return "local"
    if not _join(address):
        raise UserError(
            f"address {address}: no Ray cluster answers there; check that it is up, or use "
            f"--address local"
        )
    return address


def _join(address: str) -> bool:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError):
        return False
    return True


def _start() -> None:
    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )


def _log_instead(data: dict[str, Any], ignore_prefix: bool = False) -> None:
    for line in data.get("lines", ()):
        _log.info("%s: %s", data.get("pid", "ray"), line)
