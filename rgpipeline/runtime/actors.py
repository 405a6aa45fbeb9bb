"""Workers as Ray actors."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from rgpipeline.errors import RgpipelineError, StoreError, UserError
from rgpipeline.io.paths import DEMO
from rgpipeline.plan import Plan
from rgpipeline.records import Assignment, Fault
from rgpipeline.runtime.actor import Seat, WorkerActor
from rgpipeline.runtime.crew import Gone, Hello, Refusal, Reply, Unreached
from rgpipeline.runtime.nodes import Node, is_alive
from rgpipeline.runtime.placement import Placement
from rgpipeline.spec import Job, is_template_text
from rgpipeline.storage.filesystems import protocol_of
from rgpipeline.worker import EngineFactory

_LONGEST_REASON = 400  # characters


class RayActors:
    """`crew.Actors` on the cluster that this process is connected to."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        placement: Placement,
        node_of: Callable[[str], Node | None],
        open_engine: EngineFactory | None = None,
    ) -> None:
        """`node_of`: a node by its id; `open_engine`: what workers open in place of the model."""
        self._placement = placement
        self._node_of = node_of
        # Once in the object store, from where hosts fetch it; not once for each worker.
        self._given = (ray.put(with_absolute_paths(job)), ray.put(plan), open_engine)
        # So is the class. Of the calls Ray keeps no history: they are questions without end.
        self._make = ray.remote(WorkerActor).options(
            **placement.options(),
            max_restarts=0,
            scheduling_strategy="SPREAD",
            enable_task_events=False,
        )

    def start(self, name: str, attempt: str) -> Any:
        return self._make.remote(Seat(name, attempt, self._placement))

    def kill(self, actor: Any) -> None:
        ray.kill(actor, no_restart=True)

    def hello(self, actor: Any) -> "Future[Hello]":
        return _future(actor.hello.remote())

    def begin(self, actor: Any, node: str) -> "Future[None]":
        return _future(actor.begin.remote(self._node_of(node), *self._given))

    def report(self, actor: Any, seen: int) -> "Future[Reply]":
        return _future(actor.report.remote(seen))

    def hold(self, actor: Any, serial: int, assignments: Sequence[Assignment]) -> None:
        actor.hold.remote(serial, assignments)

    def drain(self, actor: Any) -> None:
        actor.drain.remote()

    def explain(self, error: BaseException, node: str) -> Unreached | Refusal | Gone:
        if isinstance(error, ActorUnavailableError):
            return Unreached()
        if isinstance(error, RayTaskError):
            return _refusal(error.cause)
        preempted = isinstance(error, ActorDiedError) and error.preempted
        if preempted or (node and not is_alive(node)):
            return Gone(removed=True, reason="its host went away")
        return Gone(removed=False, reason=_reason(error))


def with_absolute_paths(job: Job) -> Job:
    """The job as it reads from any folder: workers have another working directory than we."""
    model = {
        "weights": _absolute(job.model.weights),
        "tokenizer": job.model.tokenizer and _absolute(job.model.tokenizer),
        "chat_template": _absolute_template(job.model.chat_template),
    }
    output = {"path": _absolute(job.output.path)}
    return job.model_copy(
        update={
            "model": job.model.model_copy(update=model),
            "output": job.output.model_copy(update=output),
        }
    )


def _absolute_template(template: str | None) -> str | None:
    return template if template is None or is_template_text(template) else _absolute(template)


def _absolute(path: str) -> str:
    local = protocol_of(path) == "file" and "://" not in path and path != DEMO
    return str(Path(path).absolute()) if local else path


def _future(ref: Any) -> "Future[Any]":
    future: Future[Any] = ref.future()
    return future


def _refusal(cause: BaseException) -> Refusal:
    """In the words of what was raised; with its type, where it isn't ours."""
    ours = isinstance(cause, RgpipelineError)
    fault: Fault = "worker"
    if isinstance(cause, UserError):
        fault = "user"
    elif isinstance(cause, StoreError):
        fault = "store"
    return Refusal(str(cause) if ours else f"{type(cause).__name__}: {cause}", fault)


def _reason(error: BaseException) -> str:
    """What Ray says of the end of a process, without the ids before and the guesses behind."""
    text = " ".join(str(error).split())
    text = text.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    if "connection error code 2" in text:
        return "it was killed, or crashed"
    return text[:_LONGEST_REASON]
