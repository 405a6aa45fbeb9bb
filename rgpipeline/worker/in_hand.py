"""Which shard a thread of the worker is at, for its log lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_shard: ContextVar[int | None] = ContextVar("shard", default=None)


@contextmanager
def in_hand(shard: int) -> Iterator[None]:
    """What this thread logs meanwhile is about that shard."""
    token = _shard.set(shard)
    try:
        yield
    finally:
        _shard.reset(token)


def shard_in_hand() -> int | None:
    """None when this thread is at no shard, or at several, as the engine's is."""
    return _shard.get()
