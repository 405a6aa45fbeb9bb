"""How glibc allocates memory in the processes of a cluster that a run starts for itself.

XLA's programs for CPUs allocate their temporary arrays anew in each call. By default, glibc gets
each large array from the kernel and gives it back, so the kernel clears its pages in each call.
With a vocabulary of 256,000, that took 15 to 30 % of the time of decode.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# glibc reads these when a process starts. One arena: the others can't have large arrays of their
# own. No separate mappings for large arrays, and up to 4 GiB of free memory is kept.
SETTINGS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
}


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Processes that are started meanwhile keep freed memory; what is set already is kept."""
    added = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
