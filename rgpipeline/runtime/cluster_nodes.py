"""The nodes of the Ray cluster: their resources, and which of them drain."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from rgpipeline.runtime.ray_internals import draining_nodes

_log = logging.getLogger(__name__)

_PAUSE_S = 2.0
_NODES_PER_S = 1000.0  # the most entries of Ray's node table that are read
_TYPE = "accelerator_type:"
_GROUP = "ray.io/node-group"
_TOPOLOGY = "ray.io/tpu-topology"


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
    leaving = draining_nodes()
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
