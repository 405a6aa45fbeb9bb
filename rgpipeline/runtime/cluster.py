"""The Ray cluster: connects to one or starts a small one on this machine, and reads its nodes."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from rgpipeline.errors import UserError, WorkerError
from rgpipeline.runtime import ray_internals
from rgpipeline.runtime.allocator import keeping_freed_memory

_log = logging.getLogger(__name__)

_PROBE_S = 5.0
_SESSION = "/session_2026-11-29_12-14-48_986932_1234567/sockets/plasma_store.12"  # about so long
_LONGEST = 107 - len(_SESSION)  # bytes
_SHORT_FOLDERS = ("/tmp/ray", "/var/tmp/ray", "/dev/shm/ray")
_OBJECT_STORE = 128 << 20  # bytes; only plans and jobs are put into it
_PAUSE_S = 2.0  # between two readings of the nodes
_NODES_PER_S = 1000.0  # the most entries of Ray's node table that are read
_TYPE = "accelerator_type:"
_GROUP = "ray.io/node-group"
_TOPOLOGY = "ray.io/tpu-topology"


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
        with keeping_freed_memory():
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


@dataclass(frozen=True, slots=True)
class Node:
    """One host of the cluster."""

    id: str
    host: str  # name, or address
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    leaving: bool = False  # it drains: nothing new is placed there

    def amount(self, resource: str) -> int:
        """How many of `CPU`, `GPU` or `TPU` it has in all."""
        return int(self.resources.get(resource, 0))

    @property
    def accelerator_types(self) -> tuple[str, ...]:
        """`TPU-V5LITEPOD`, `A100`…"""
        return tuple(r.removeprefix(_TYPE) for r in self.resources if r.startswith(_TYPE))

    @property
    def topology(self) -> str | None:
        """Of the TPU slice it belongs to: `2x4`; None when Ray doesn't know."""
        return self.labels.get(_TOPOLOGY) or None


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes of a cluster at one moment."""

    nodes: tuple[Node, ...]

    @property
    def staying(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if not node.leaving)

    @property
    def grows(self) -> bool:
        """Whether an autoscaler can add nodes: it labels each node that it starts with a group."""
        return any(_GROUP in node.labels for node in self.nodes)


def read_cluster() -> Cluster:
    """The cluster as it is now. Raises whatever Ray does when its head can't be reached."""
    leaving = ray_internals.draining_nodes()
    alive = (entry for entry in _entries() if entry["Alive"])
    return Cluster(
        tuple(
            Node(
                entry["NodeID"],
                entry.get("NodeManagerHostname") or entry["NodeManagerAddress"],
                entry["Resources"],
                entry.get("Labels") or {},
                entry["NodeID"] in leaving,
            )
            for entry in alive
        )
    )


class NodeWatch:
    """Reads the cluster's nodes again and again, in a thread, since this may take long."""

    def __init__(self, first: Cluster) -> None:
        self.cluster = first
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def node(self, node_id: str) -> Node | None:
        """The node with this id; None when there is none. Reads the nodes again if it is new."""
        known = self._find(node_id)
        if known is None:
            self._read()
            known = self._find(node_id)
        return known

    def _find(self, node_id: str) -> Node | None:
        return next((node for node in self.cluster.nodes if node.id == node_id), None)

    def _run(self) -> None:
        while not self._closing.wait(max(_PAUSE_S, len(self.cluster.nodes) / _NODES_PER_S)):
            self._read()

    def _read(self) -> None:
        try:
            self.cluster = read_cluster()
        except Exception as error:  # Ray raises many kinds; the next time may succeed
            _log.warning("the cluster's nodes can't be listed: %s", error)


def is_alive(node_id: str) -> bool:
    """Whether Ray takes the node to be alive."""
    return any(entry["NodeID"] == node_id and entry["Alive"] for entry in _entries())


def _entries() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return entries
