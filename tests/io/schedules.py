"""Writers in every order: one at a time between two requests to a store that fails and kills.

A schedule is a list of numbers; each says who goes next, or what befalls the next request. Past
its end nothing befalls, and the first who can goes on; so every schedule ends.
"""

from collections.abc import Callable, Sequence
from threading import Semaphore, Thread
from typing import TypeVar, cast

from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore

T = TypeVar("T")


class Killed(BaseException):
    """The process is gone: nothing catches this but the test."""


class Schedule:
    """Choices, taken one after another."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._left = list(reversed(numbers))

    def pick(self, among: int) -> int:
        return self._left.pop() % among if self._left else 0


def interleave(schedule: Schedule, actors: Sequence[Callable[[Callable[[], None]], None]]) -> None:
    """Runs the actors, one at a time; each calls its argument wherever others may go first.

    Raises what an actor raised.
    """
    back = Semaphore(0)
    go = [Semaphore(0) for _ in actors]
    ended: dict[int, BaseException | None] = {}

    def run(index: int) -> None:
        go[index].acquire()

        def turn() -> None:
            back.release()
            go[index].acquire()

        try:
            actors[index](turn)
            ended[index] = None
        except BaseException as error:
            ended[index] = error
        back.release()

    for index in range(len(actors)):
        Thread(target=run, args=(index,), daemon=True).start()
    while alive := [index for index in range(len(actors)) if index not in ended]:
        go[alive[schedule.pick(len(alive))]].release()
        back.acquire()
        for error in filter(None, ended.values()):
            raise error


class MemoryStore:
    """Objects in memory; what others can see changes between two turns only."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = {} if objects is None else objects

    def create(self, name: str, data: bytes) -> bool:
        return self.objects.setdefault(name, data) is data

    def replace(self, name: str, data: bytes) -> None:
        self.objects[name] = data

    def read(self, name: str) -> bytes:
        if name not in self.objects:
            raise FileNotFoundError(name)
        return self.objects[name]

    def read_tail(self, name: str, length: int) -> bytes:
        return self.read(name)[-length:]

    def list(self, prefix: str = "") -> Sequence[str]:
        return sorted(name for name in self.objects if name.startswith(prefix))

    def entries(self) -> Sequence[str]:
        return sorted({name.partition("/")[0] for name in self.objects})

    def exists(self, name: str) -> bool:
        return name in self.objects

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def url(self, name: str = "") -> str:
        return f"memory/{name}"


class FaultyStore(MemoryStore):
    """A view of shared objects whose requests fail, before or after their effect, and kill.

    A cut read gives the first half of what was asked for, and no error.
    """

    _FATES = ("", "", "", "", "error before", "error after", "cut", "kill before", "kill after")

    def __init__(
        self, objects: dict[str, bytes], schedule: Schedule, turn: Callable[[], None]
    ) -> None:
        super().__init__(objects)
        self._schedule = schedule
        self._turn = turn

    def create(self, name: str, data: bytes) -> bool:
        return self._befall(lambda: MemoryStore.create(self, name, data))

    def read(self, name: str) -> bytes:
        return self._befall(lambda: MemoryStore.read(self, name))

    def read_tail(self, name: str, length: int) -> bytes:
        return self._befall(lambda: MemoryStore.read(self, name)[-length:])

    def list(self, prefix: str = "") -> Sequence[str]:
        return self._befall(lambda: MemoryStore.list(self, prefix))

    def delete(self, name: str) -> None:
        self._befall(lambda: MemoryStore.delete(self, name))

    def _befall(self, action: Callable[[], T]) -> T:
        self._turn()
        fate = self._FATES[self._schedule.pick(len(self._FATES))]
        if fate == "kill before":
            raise Killed
        if fate == "error before":
            raise ConnectionRefusedError("refused")
        result = action()
        if fate == "kill after":
            raise Killed
        if fate == "error after":
            raise ConnectionResetError("reset")
        if fate == "cut" and isinstance(result, bytes):
            return cast("T", result[: len(result) // 2])
        return result


def patient(store: MemoryStore) -> RetryingStore:
    """The store as production code sees it; three failures in a row are one for good."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    retry = Retry(1.0, first_s=0.4, clock=lambda: now[0], sleep=sleep, jitter=lambda: 1.0)
    return RetryingStore(store, retry)
