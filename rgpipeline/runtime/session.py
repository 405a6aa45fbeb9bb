"""A Ray cluster to work on: the one that is there, or a small one of our own."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import ray
from ray._private import services as ray_services
from ray._private import worker as ray_worker

from rgpipeline.errors import UserError

_log = logging.getLogger(__name__)

_PROBE_S = 5.0
_OBJECT_STORE = 128 << 20  # bytes: only plans and jobs pass through it


@contextlib.contextmanager
def connected(address: str) -> Iterator[str]:
    """Connects to Ray, and yields its address or `local`.

    Args:
      address: `local` starts a cluster on this machine, gone at the end; `auto` takes the one
        that RAY_ADDRESS names or `ray start` has started here, else is `local`; anything else
        is an address.

    Raises:
      UserError: nothing answers at the address.
    """
    if ray.is_initialized():  # the caller's own; it is theirs to end
        here = ray.get_runtime_context().gcs_address
        if address not in ("auto", here):
            raise UserError(
                f"address {address}: this process is connected to the Ray cluster {here}; call "
                f"ray.shutdown() first, or use auto"
            )
        yield here
        return
    # Ray prints a page on every worker that dies, over whatever is on the terminal.
    printing, ray_worker.print_to_stdstream = ray_worker.print_to_stdstream, _log_instead
    try:
        where = _connect(address)
        try:
            yield where
        finally:
            ray.shutdown()
    finally:
        ray_worker.print_to_stdstream = printing


def _connect(address: str) -> str:
    if "://" in address:
        raise UserError(
            f"address {address}: only the cluster's own GCS address, HOST:6379, can be joined; "
            f"from outside, `rgpipeline submit --address http://HOST:8265` runs the job there"
        )
    if address == "auto":
        # Not Ray's own `auto`, which would also join the private cluster of somebody's run.
        known = ray_services.get_ray_address_from_environment(None, None)  # type: ignore[arg-type]
        address = known if known is not None and _answers(known) else "local"
    if address == "local":
        _start()
        return "local"
    if not _answers(address):
        raise UserError(
            f"address {address}: no Ray cluster answers there; check that it is up, or use "
            f"--address local"
        )
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    return address


def _answers(address: str) -> bool:
    """Whether somebody listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PROBE_S).close()
    except (OSError, ValueError):
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
    )


def _log_instead(data: dict[str, Any], ignore_prefix: bool = False) -> None:
    for line in data.get("lines", ()):
        _log.info("%s: %s", data.get("pid", "ray"), line)
