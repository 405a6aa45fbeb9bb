"""What is looked at in threads of their own, since looking may take long."""

import logging
import threading
from collections.abc import Callable, Iterable

from rgpipeline.runtime.nodes import Cluster, Node, look

_log = logging.getLogger(__name__)

_PAUSE_S = 2.0
_ID_CHECK_S = 20.0
_NODES_PER_S = 1000.0  # entries of Ray's node table looked through, at most


class IdCheck:
    """What is to be known of the rows' ids, looked for while the job runs."""

    def __init__(self, looking: Callable[[], Iterable[str]]) -> None:
        self._looking = looking
        self._found = ""
        self._thread = threading.Thread(target=self._run, name="ids", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def found(self) -> str:
        """Waits for it, but not for long; empty when there is nothing to say."""
        self._thread.join(_ID_CHECK_S)
        return self._found

    def _run(self) -> None:
        try:
            self._found = "\n".join(self._looking())
        except Exception as error:  # a job is done all the same
            _log.warning("the rows' ids can't be looked at: %s", error)


class NodeWatch:
    """The cluster as it was a moment ago."""

    def __init__(self, first: Cluster, looking: Callable[[], Cluster] = look) -> None:
        self.cluster = first
        self._looking = looking
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def node(self, node_id: str) -> Node | None:
        """The node by its id; looks again when it is new."""
        known = self._find(node_id)
        if known is None:
            self._look()
            known = self._find(node_id)
        return known

    def _find(self, node_id: str) -> Node | None:
        return next((node for node in self.cluster.nodes if node.id == node_id), None)

    def _run(self) -> None:
        while not self._closing.wait(max(_PAUSE_S, len(self.cluster.nodes) / _NODES_PER_S)):
            self._look()

    def _look(self) -> None:
        try:
            self.cluster = self._looking()
        except Exception as error:  # Ray raises many kinds; the next look may do better
            _log.warning("the cluster's nodes can't be listed: %s", error)
