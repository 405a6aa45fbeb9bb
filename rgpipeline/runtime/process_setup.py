"""Prepares a process: environment variables, cores, logs, signal handlers.

Environment variables of the processes that Ray starts are in `allocator`.
"""

import contextlib
import fcntl
import json
import logging
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from rgpipeline.runtime.cluster import Node
from rgpipeline.runtime.placement import Placement
from rgpipeline.worker.shared import logged_shard

# Chips of one host as a grid, for libtpu.
_TPU_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}


def prepare_for_jax(
    placement: Placement, node: Node | None, chips: Sequence[str]
) -> IO[str] | None:
    """Sets what jax reads when it is imported, and pins the process to its cores.

    `chips`: ids of the TPU chips that Ray gave this process. Returns the lock on the cores, if any
    were taken: keep it for as long as the process works.
    """
    os.environ.update(environment(placement, node, chips, os.environ))
    return take_cores(core_shares(placement, node, sorted(os.sched_getaffinity(0))))


def environment(
    placement: Placement, node: Node | None, visible: Sequence[str], present: Mapping[str, str]
) -> dict[str, str]:
    """The environment variables that a worker's process needs before jax is imported.

    Args:
      placement: of the job's workers.
      node: where the process runs; None if unknown.
      visible: ids of the chips that Ray gave it, for TPUs.
      present: the environment as it is; a JAX_PLATFORMS set there is kept.
    """
    chosen: dict[str, str] = {}
    if placement.kind == "cpu":
        chosen["JAX_PLATFORMS"] = "cpu"
        for name in ("PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            chosen[name] = str(placement.units)
    elif "JAX_PLATFORMS" not in present:
        chosen["JAX_PLATFORMS"] = "tpu,cpu" if placement.kind == "tpu" else "cuda,cpu"
    if placement.kind == "tpu" and node is not None and _shares_its_slice(placement, node):
        chosen |= {
            "TPU_CHIPS_PER_PROCESS_BOUNDS": _TPU_BOUNDS.get(placement.units, "1,1,1"),
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "TPU_VISIBLE_CHIPS": ",".join(visible or map(str, range(placement.units))),
            "CLOUD_TPU_TASK_ID": "0",
        }
    return chosen


def _shares_its_slice(placement: Placement, node: Node) -> bool:
    """Whether some chips of the worker's slice belong to another worker or host."""
    chips = node.amount("TPU")
    slice_chips = math.prod(map(int, node.topology.split("x"))) if node.topology else 0
    return placement.units < chips or slice_chips > chips


def core_shares(placement: Placement, node: Node | None, cores: Sequence[int]) -> list[list[int]]:
    """Divides a host's `cores` among its workers; empty when workers are not to be pinned.

    They are pinned only where Ray has all cores of the machine. In a container that has a part of
    them, cores have no owner, and only the number of threads is limited.
    """
    units = placement.units
    if placement.kind != "cpu" or node is None or node.amount("CPU") != len(cores):
        return []
    if units >= len(cores):
        return []
    return [list(cores[i : i + units]) for i in range(0, len(cores) - units + 1, units)]


def take_cores(shares: Sequence[Sequence[int]]) -> IO[str] | None:
    """Pins this process to the first share that no other worker on this host has locked.

    The lock is released when the process ends, however it ends.
    """
    for index, cores in enumerate(shares):
        file = (_scratch() / f"cores-{index}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        os.sched_setaffinity(0, cores)
        return file
    return None


def compilation_cache() -> Path:
    """The folder on this host in which compiled programs are kept."""
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(named) if named else _scratch() / "programs"


def _scratch() -> Path:
    folder = Path(tempfile.gettempdir()) / f"rgpipeline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class JsonLines(logging.Formatter):
    """`{"t", "level", "logger", "job", "worker", "shard", "message"}`, a line for each record.

    `shard` is null in lines about the worker as a whole or about all of its shards.
    """

    def __init__(self, **always: str) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "t": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._always,
            "shard": logged_shard(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(**always: str) -> None:
    """Sends rgpipeline's logs to this process's stderr, which Ray keeps in a file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(**always))
    logger = logging.getLogger("rgpipeline")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextlib.contextmanager
def stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a second SIGINT raises KeyboardInterrupt.

    Only the main thread can handle signals; in any other nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
