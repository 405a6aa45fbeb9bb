"""The workers as Ray actors: started, asked, told, ended. Whatever they answer becomes an event."""

import logging
import queue
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, RayTaskError

from rgpipeline.dispatch import Died, Draining, Event, Heard, Up
from rgpipeline.errors import RgpipelineError, StoreError, UserError
from rgpipeline.plan import Plan
from rgpipeline.records import Assignment, Fault, WorkerReport
from rgpipeline.runtime.actor import Hello, Reply, Seat, WorkerActor
from rgpipeline.runtime.nodes import Node, is_alive
from rgpipeline.runtime.placement import Placement
from rgpipeline.spec import Job
from rgpipeline.worker import EngineFactory

_log = logging.getLogger(__name__)

# Questions a second that the driver asks in all, and pauses between two to the same worker.
_QUESTIONS_PER_S = 500.0
_SHORTEST_S, _LONGEST_S = 0.2, 30.0
_LONGEST_REASON = 400  # characters
_UNAVAILABLE_S = 2.0  # before asking again one that could not be reached

Answer = tuple[str, "Future[Any]"]  # whose, and what


@dataclass(slots=True, eq=False)
class _Hand:
    """One worker, as Ray has it."""

    actor: Any
    node: str = ""
    host: str = ""
    seen: int = 0  # of the assignments it has finished
    serial: int = 0  # of what it was last told to hold
    holds: tuple[Assignment, ...] = ()
    draining: bool = False  # was told to
    leaving: bool = False  # said so itself
    ask_at: float | None = None  # None while a question is open


class Crew:
    """All workers of one driver. For one thread; answers gather by themselves."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        placement: Placement,
        *,
        node_of: Callable[[str], Node | None],
        open_engine: EngineFactory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`node_of`: a node by its id; `open_engine`: what workers open in place of the model."""
        self._clock = clock
        self._placement = placement
        self._node_of = node_of
        self._given = (ray.put(job), ray.put(plan), open_engine)
        self._id = uuid.uuid4().hex[:12]
        self._hands: dict[str, _Hand] = {}
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    @property
    def hosts(self) -> Mapping[str, str]:
        """Where workers are, as far as they have said."""
        return {name: hand.host for name, hand in self._hands.items()}

    def on_nodes(self, nodes: Sequence[str]) -> list[str]:
        """Names of the workers on these nodes."""
        return [name for name, hand in self._hands.items() if hand.node in nodes]

    def start(self, name: str) -> None:
        """Has Ray make an actor as soon as there is room for it."""
        seat = Seat(name, f"{self._id}-{name}", self._placement)
        make = ray.remote(WorkerActor).options(
            **self._placement.options(), max_restarts=0, scheduling_strategy="SPREAD"
        )
        hand = self._hands[name] = _Hand(make.remote(seat))
        self._ask(name, hand.actor.hello.remote())

    def hold(self, name: str, assignments: Sequence[Assignment]) -> None:
        """Tells a worker all that it is to hold."""
        hand = self._hands.get(name)
        if hand is not None:
            hand.holds = tuple(assignments)
            hand.serial += 1
            self._tell_to_hold(hand)

    def drain(self, name: str) -> None:
        """Tells a worker to publish and leave."""
        hand = self._hands.get(name)
        if hand is not None:
            hand.draining = True
            hand.actor.drain.remote()

    def kill(self, name: str) -> None:
        """Ends a worker's process, also one that is stopped or still waits for room."""
        hand = self._hands.pop(name, None)
        if hand is not None:
            ray.kill(hand.actor, no_restart=True)

    def kill_all(self) -> None:
        """Ends everybody."""
        for name in list(self._hands):
            self.kill(name)

    def events(self, wait_s: float) -> list[Event]:
        """What workers have said since the last call; waits `wait_s` at most for the first."""
        self._ask_those_due()
        events: list[Event] = []
        try:
            answer = self._answers.get(timeout=wait_s)
            while True:
                events += self._understood(*answer)
                answer = self._answers.get_nowait()
        except queue.Empty:
            return events

    def _ask_those_due(self) -> None:
        now = self._clock()
        for name, hand in self._hands.items():
            if hand.ask_at is not None and hand.ask_at <= now:
                hand.ask_at = None
                self._ask(name, hand.actor.report.remote(hand.seen))

    def _ask(self, name: str, ref: Any) -> None:
        ref.future().add_done_callback(lambda future: self._answers.put((name, future)))

    def _understood(self, name: str, future: "Future[Any]") -> list[Event]:
        hand, now = self._hands.get(name), self._clock()
        if hand is None:
            return []  # it was killed; nobody listens
        try:
            answer = future.result()
        except ActorUnavailableError:
            hand.ask_at = now + _UNAVAILABLE_S  # out of reach; whether for good, time will tell
            return []
        except RayTaskError as error:  # in `begin`: it can't start, and says why
            del self._hands[name]
            ray.kill(hand.actor, no_restart=True)
            report = WorkerReport(beat=0, error=_plain(error), fault=_fault(error))
            return [Heard(now, name, report)]
        except RayError as error:
            del self._hands[name]
            return [self._death(name, hand, error)]
        if isinstance(answer, Hello):
            return self._greeted(name, hand, answer)
        if isinstance(answer, Reply):
            hand.ask_at = now + self._pause()
            return self._reported(name, hand, answer)
        return []

    def _greeted(self, name: str, hand: _Hand, hello: Hello) -> list[Event]:
        hand.node, hand.host = hello.node, hello.host
        self._ask(name, hand.actor.begin.remote(self._node_of(hello.node), *self._given))
        hand.ask_at = self._clock()
        return [Up(self._clock(), name)]

    def _reported(self, name: str, hand: _Hand, reply: Reply) -> list[Event]:
        now = self._clock()
        hand.seen += len(reply.report.finished)
        if reply.holding < hand.serial:
            self._tell_to_hold(hand)
        events: list[Event] = [Heard(now, name, reply.report)]
        if reply.leaving and not hand.leaving:
            hand.leaving = True
            events.insert(0, Draining(now, name))
        return events

    def _tell_to_hold(self, hand: _Hand) -> None:
        hand.actor.hold.remote(hand.serial, hand.holds)

    def _pause(self) -> float:
        return min(max(_SHORTEST_S, len(self._hands) / _QUESTIONS_PER_S), _LONGEST_S)

    def _death(self, name: str, hand: _Hand, error: RayError) -> Died:
        preempted = isinstance(error, ActorDiedError) and error.preempted
        removed = preempted or (hand.node != "" and not is_alive(hand.node))
        where = hand.host or "its host"
        reason = f"{where} went away" if removed else _reason(error, hand)
        _log.warning("worker %s died: %s", name, reason)
        return Died(self._clock(), name, "removed" if removed else "crashed", reason)


def _plain(error: RayTaskError) -> str:
    """The message of what was raised in the worker; with its type, where it isn't ours."""
    cause = error.cause
    ours = isinstance(cause, RgpipelineError)
    return str(cause) if ours else f"{type(cause).__name__}: {cause}"


def _fault(error: RayTaskError) -> Fault:
    if isinstance(error.cause, UserError):
        return "user"
    return "store" if isinstance(error.cause, StoreError) else "worker"


def _reason(error: RayError, hand: _Hand) -> str:
    """What Ray says of the end of a process, without the ids before and the guesses behind."""
    text = " ".join(str(error).split())
    text = text.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    if "connection error code 2" in text:
        text = "it was killed, or crashed"
    where = f" on {hand.host}" if hand.host else ""
    return f"its process{where} is gone: {text[:_LONGEST_REASON]}"
