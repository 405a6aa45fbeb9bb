"""How much memory this worker's device has; the same on all machines of a kind."""

import os
from pathlib import Path

import jax
import psutil

from rgpipeline.engine.auto import Memory

_CGROUPS = Path("/sys/fs/cgroup")


def device_memory(devices: int = 1) -> Memory:
    """Of one of the worker's `devices`; on CPUs, of the host's by the cores that are ours."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        limit = int(stats["bytes_limit"])
        return Memory(limit, limit, cpu=False)
    whole = _host_bytes() // devices
    return Memory(int(whole * _cores_share()), whole, cpu=jax.default_backend() == "cpu")


def _host_bytes() -> int:
    """Memory of the host, or of the container if it may have less."""
    limits = [psutil.virtual_memory().total]
    try:
        own = _CGROUPS / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:  # no Linux
        return limits[0]
    for folder in (own, *own.parents):
        limit = folder / "memory.max"
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def _cores_share() -> float:
    """Workers on one host are pinned to cores of their own."""
    if not hasattr(os, "sched_getaffinity"):
        return 1.0
    # A container's first process has the container's cores, of which memory is the container's.
    cores = len(os.sched_getaffinity(1))
    return min(1.0, len(os.sched_getaffinity(0)) / cores)
