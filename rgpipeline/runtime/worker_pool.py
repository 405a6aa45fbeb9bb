"""The workers as the driver talks to them: started, asked, told, ended.

Whatever they answer becomes an event. Free of Ray, which is behind `Actors`; any message may be
lost, and what a worker says shows whether one was.
"""

import heapq
import queue
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from rgpipeline.dispatch import Died, Draining, Event, Heard, Up
from rgpipeline.dispatch.driver_messages import Loss
from rgpipeline.records import Assignment, WorkerReport
from rgpipeline.runtime.worker_transport import Actors, Gone, Hello, Refusal, Reply, Unreached

# How often a worker is asked: few often, many not so often, so that the driver asks 128 times a
# second in all up to some thousand workers, and 500 times for ten thousand.
_QUESTIONS_PER_S = 128.0
_SHORTEST_S, _LONGEST_S = 0.2, 20.0
_UNREACHED_S = 2.0  # before asking again one that could not be reached


@dataclass(slots=True, eq=False)
class _Hand:
    """One worker, as it is known here."""

    actor: Any
    node: str = ""
    host: str = ""
    seen: int = 0  # of the assignments it has finished
    serial: int = 0  # of what it was last told to hold
    holds: tuple[Assignment, ...] = ()
    draining: bool = False  # was told to
    leaving: bool = False  # said so


class Crew:
    """All workers of one driver. For one thread; answers gather by themselves."""

    def __init__(self, actors: Actors, clock: Callable[[], float] = time.monotonic) -> None:
        self._actors = actors
        self._clock = clock
        self._id = uuid.uuid4().hex[:12]
        self._hands: dict[str, _Hand] = {}
        self._due: list[tuple[float, str]] = []  # a heap of whom to ask when
        self._answers: queue.SimpleQueue[tuple[str, Future[Any]]] = queue.SimpleQueue()

    def host_of(self, name: str) -> str:
        """Where a worker is; empty as long as it hasn't said."""
        hand = self._hands.get(name)
        return hand.host if hand is not None else ""

    def on_nodes(self, nodes: Collection[str]) -> list[str]:
        """Names of the workers on these nodes."""
        if not nodes:
            return []
        return [name for name, hand in self._hands.items() if hand.node in nodes]

    def start(self, name: str) -> None:
        """Has a worker started as soon as there is room for it."""
        hand = _Hand(self._actors.start(name, f"{self._id}-{name}"))
        self._hands[name] = hand
        self._expect(name, self._actors.hello(hand.actor))

    def hold(self, name: str, assignments: Sequence[Assignment]) -> None:
        """Tells a worker all that it is to hold."""
        hand = self._hands.get(name)
        if hand is not None:
            hand.holds = tuple(assignments)
            hand.serial += 1
            self._actors.hold(hand.actor, hand.serial, hand.holds)

    def drain(self, name: str) -> None:
        """Tells a worker to publish and leave."""
        hand = self._hands.get(name)
        if hand is not None:
            hand.draining = True
            self._actors.drain(hand.actor)

    def kill(self, name: str) -> None:
        """Ends a worker's process; nothing it says is listened to any more."""
        hand = self._hands.pop(name, None)
        if hand is not None:
            self._actors.kill(hand.actor)

    def kill_all(self) -> None:
        """Ends everybody."""
        for name in list(self._hands):
            self.kill(name)

    def events(self, wait_s: float) -> list[Event]:
        """What workers have said since the last call; waits `wait_s` at most for the first."""
        self._ask_those_due()
        events: list[Event] = []
        try:
            answer = self._answers.get(block=wait_s > 0, timeout=wait_s)
            while True:
                events += self._understood(*answer)
                answer = self._answers.get_nowait()
        except queue.Empty:
            return events

    def _ask_those_due(self) -> None:
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            name = heapq.heappop(self._due)[1]
            hand = self._hands.get(name)
            if hand is not None and hand.node:
                self._expect(name, self._actors.report(hand.actor, hand.seen))
            elif hand is not None:
                self._expect(name, self._actors.hello(hand.actor))

    def _expect(self, name: str, answer: "Future[Any]") -> None:
        answer.add_done_callback(lambda future: self._answers.put((name, future)))

    def _ask_in(self, name: str, pause_s: float) -> None:
        heapq.heappush(self._due, (self._clock() + pause_s, name))

    def _understood(self, name: str, future: "Future[Any]") -> list[Event]:
        hand = self._hands.get(name)
        if hand is None:
            return []  # it was killed; nobody listens
        error = future.exception()
        if error is not None:
            return self._failed(name, hand, error)
        match future.result():
            case Hello() as hello:
                return self._greeted(name, hand, hello)
            case Reply() as reply:
                return self._replied(name, hand, reply)
        return []

    def _greeted(self, name: str, hand: _Hand, hello: Hello) -> list[Event]:
        hand.node, hand.host = hello.node, hello.host
        self._begin(name, hand)
        self._ask_in(name, 0.0)
        return [Up(self._clock(), name)]

    def _begin(self, name: str, hand: _Hand) -> None:
        def refused(future: "Future[None]") -> None:
            if future.exception() is not None:  # otherwise there is nothing to say
                self._answers.put((name, future))

        self._actors.begin(hand.actor, hand.node).add_done_callback(refused)

    def _replied(self, name: str, hand: _Hand, reply: Reply) -> list[Event]:
        self._ask_in(name, self._pause())
        hand.seen += len(reply.report.finished)
        if not reply.begun:
            self._begin(name, hand)
        if reply.holding < hand.serial:
            self._actors.hold(hand.actor, hand.serial, hand.holds)
        if hand.draining and not reply.leaving:
            self._actors.drain(hand.actor)
        now = self._clock()
        events: list[Event] = [Heard(now, name, reply.report)]
        if reply.leaving and not hand.leaving:
            hand.leaving = True
            events.insert(0, Draining(now, name))
        return events

    def _pause(self) -> float:
        return min(max(_SHORTEST_S, len(self._hands) / _QUESTIONS_PER_S), _LONGEST_S)

    def _failed(self, name: str, hand: _Hand, error: BaseException) -> list[Event]:
        now = self._clock()
        match self._actors.explain(error, hand.node):
            case Unreached():
                self._ask_in(name, _UNREACHED_S)
                return []
            case Refusal(message, fault):
                self.kill(name)
                return [Heard(now, name, WorkerReport(beat=0, error=message, fault=fault))]
            case Gone(removed, reason):
                del self._hands[name]
                where = f" on {hand.host}" if hand.host else ""
                loss: Loss = "removed" if removed else "crashed"
                return [Died(now, name, loss, f"its process{where} is gone: {reason}")]
