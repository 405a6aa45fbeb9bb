"""Connects to a Ray cluster: one that exists, or a small one started on this machine."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from rgpipeline.errors import UserError, WorkerError
from rgpipeline.runtime import ray_internals

_log = logging.getLogger(__name__)

_PROBE_S = 5.0
_SESSION = "/session_2026-11-29_12-14-48_986932_1234567/sockets/plasma_store.12"  # about so long
_LONGEST = 107 - len(_SESSION)  # bytes
_SHORT_FOLDERS = ("/tmp/ray", "/var/tmp/ray", "/dev/shm/ray")
_OBJECT_STORE = 128 << 20  # bytes; only plans and jobs are put into it


@contextlib.contextmanager
def connected(address: str) -> Iterator[str]:
    """Connects to Ray, and yields its address or `local`.

    Args:
      address: `local` starts a cluster on this machine and stops it at the end; `auto` takes the
        one that RAY_ADDRESS names or that `ray start` has started here, else acts as `local`;
        anything else is a cluster's address.

    Raises:
      UserError: nothing answers at the address.
    """
    if ray.is_initialized():  # by the caller, who also disconnects
        here = ray.get_runtime_context().gcs_address
        if address not in ("auto", here):
            raise UserError(
                f"address {address}: this process is connected to the Ray cluster {here}; call "
                f"ray.shutdown() first, or use auto"
            )
        yield here
        return
    with ray_internals.messages_logged(_log):
        where = _connect(address)
        try:
            yield where
        finally:
            ray.shutdown()


def _connect(address: str) -> str:
    if "://" in address:
        raise UserError(
            f"address {address}: only the cluster's own GCS address, HOST:6379, can be joined; "
            f"from outside, `rgpipeline submit --address http://HOST:8265` runs the job there"
        )
    if address == "auto":
        known = ray_internals.cluster_address()
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
    """Whether something listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PROBE_S).close()
    except (OSError, ValueError):
        return False
    return True


def _start() -> None:
    folder = scratch_folder(ray_internals.default_temp_folder(), _SHORT_FOLDERS)
    try:
        ray.init(
            address="local",
            num_cpus=len(os.sched_getaffinity(0)),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
    except Exception as error:  # Ray raises bare exceptions here, too
        reason = " ".join(str(error).split())[:400]
        raise WorkerError(
            f"Ray could not start on this machine ({reason}); its logs are below {folder}. Run the "
            f"same job again; another temporary folder is set by RAY_TMPDIR"
        ) from error


def scratch_folder(wanted: str, others: Sequence[str]) -> str:
    """The first of the given folders in which Ray can keep its files and sockets.

    Args:
      wanted: where Ray keeps them by default, below TMPDIR or RAY_TMPDIR.
      others: tried in order when `wanted` is not writable or its name is too long: the address of
        a Unix socket has 107 bytes at most.

    Raises:
      UserError: none of them can be used.
    """
    for folder in (Path(name).absolute() for name in (wanted, *others)):
        if len(os.fsencode(folder)) > _LONGEST:
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return str(folder)
    raise UserError(
        f"{wanted}: Ray can't keep its sockets there (the path is longer than {_LONGEST} "
        f"characters, or not writable), nor in {', '.join(others)}; set RAY_TMPDIR to a short path"
    )
