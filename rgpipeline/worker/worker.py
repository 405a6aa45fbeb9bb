"""A worker: opens its engine, does its assignments, and reports its state."""

import logging
import traceback
from collections.abc import Sequence
from dataclasses import replace
from threading import Event, Lock
from typing import Any

from rgpipeline.engine.activity import Activity
from rgpipeline.engine.loop import Loop
from rgpipeline.errors import RgpipelineError, StoreError, StoreFullError, UserError
from rgpipeline.plan import Plan
from rgpipeline.plan.recorded_snapshots import recorded_source
from rgpipeline.records import Assignment, Fault, WorkerReport
from rgpipeline.spec import Job
from rgpipeline.storage.store import RetryingStore, Store
from rgpipeline.worker.feeder import Feeder
from rgpipeline.worker.part_writer import PartWriter
from rgpipeline.worker.publisher import Publisher
from rgpipeline.worker.row_maker import RowMaker
from rgpipeline.worker.running_sample import CompletionFormat
from rgpipeline.worker.session import Session
from rgpipeline.worker.shared import WorkerPolicy
from rgpipeline.worker.worker_setup import (
    EngineFactory,
    fit_together,
    open_prompts,
    open_shared_engine,
)

_WAIT_S = 0.5  # for assignments or rows, at most
_MESSAGE_CHARACTERS = 600

_log = logging.getLogger(__name__)


class Worker:
    """One engine and its assignments.

    `run` works in the thread that calls it. All other methods may be called from any thread and
    never wait for the engine.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        store: Store,
        *,
        attempt: str,
        open_engine: EngineFactory,
        policy: WorkerPolicy | None = None,
        activity: Activity | None = None,
    ) -> None:
        """`attempt` is a unique name for this process of the worker.

        `activity`: where `open_engine` notes what takes long.
        """
        self._job = job
        self._plan = plan
        self._store = store
        self._attempt = attempt
        self._open_engine = open_engine
        self._policy = policy or WorkerPolicy()
        self._activity = activity or Activity()
        self._wake = Event()
        self._lock = Lock()  # guards `_wanted`
        self._wanted: Sequence[Assignment] | None = None  # assignments that `run` hasn't seen yet
        self._draining = False
        self._loop: Loop[Any, Any] | None = None
        self._threads: tuple[Session, Feeder, Publisher] | None = None
        self._warnings: tuple[str, ...] = ()  # about the model
        self._end = WorkerReport(progress_counter=0)  # how it ended; counters are added

    def set_assignments(self, assignments: Sequence[Assignment]) -> None:
        """Replaces all its assignments: new ones are started, those not named are dropped."""
        with self._lock:
            self._wanted = tuple(assignments)
        self._wake.set()

    def drain(self) -> None:
        """Has it publish what is finished, save the states of long sequences, and stop."""
        self._draining = True
        self._wake.set()

    def report(self) -> WorkerReport:
        """The worker's state now. Counters only grow; `slots` is 0 until the engine is open."""
        if self._threads is None:
            return replace(self._end, doing=self._activity.text)
        session, _, publisher = self._threads
        stats = session.stats
        counters = (one.progress_counter for one in self._threads)
        return replace(
            self._end,
            progress_counter=sum(counters),
            finished=publisher.finished,
            saved=publisher.saved,
            rows_done=publisher.rows_done,
            rows_failed=publisher.rows_failed,
            prompt_tokens=stats.prompt_tokens,
            completion_tokens=stats.completion_tokens,
            doing=self._activity.text,
            warnings=self._warnings,
            details={**stats.details(), **self._reading(), **self._store_details()},
            **session.view._asdict(),
        )

    def _reading(self) -> dict[str, float]:
        if self._loop is None:
            return {}
        done, tokens = self._loop.reading
        return {"reading_done": float(done), "reading_tokens": float(tokens)}

    def _store_details(self) -> dict[str, float]:
        store = self._store
        if not isinstance(store, RetryingStore):
            return {}
        return {"store_errors": float(store.errors), "store_waits_s": store.waits_s}

    def run(self) -> None:
        """Works until it is drained or fails. Never raises: `report` tells the error."""
        try:
            self._work()
            self._end = WorkerReport(progress_counter=0, stopped=True)
        except StoreFullError as error:
            self._fail("full", error)
        except StoreError as error:
            self._fail("store", error)
        except UserError as error:
            self._fail("user", error)
        except Exception as error:
            _log.error("the worker failed\n%s", traceback.format_exc())
            self._fail("worker", error)

    def _work(self) -> None:
        session, feeder, publisher = self._open()
        feeder.start()
        publisher.start()
        self._threads = session, feeder, publisher
        _log.info("engine open, %d slots", session.view.slots)
        try:
            while not self._draining:
                self._take_assignments(session)
                if not session.step():
                    self._wake.wait(_WAIT_S)
                    self._wake.clear()
            session.drain()
        finally:
            feeder.close()
            publisher.close()  # publishes what is finished even if the engine has failed
        _log.info("drained: everything finished is published")

    def _take_assignments(self, session: Session) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
        if wanted is not None:
            session.set_assignments(wanted)

    def _open(self) -> tuple[Session, Feeder, Publisher]:
        job, plan, store, policy = self._job, self._plan, self._store, self._policy
        source = recorded_source(job, store)
        prompts = open_prompts(job, plan, source)
        opened = open_shared_engine(job, source, store, self._open_engine)
        self._warnings = fit_together(opened.loop, job, prompts)
        self._loop = opened.loop
        dtype = opened.settings.dtype
        maker = RowMaker(job, plan, store, source.options, prompts, opened.loop.check_tokens, dtype)
        feeder = Feeder(maker, policy.ahead_bytes, self._wake.set)
        writer = PartWriter(job, plan, self._attempt)
        publisher = Publisher(writer, store, policy, self._wake.set)
        batch = plan.format == "openai-batch"
        format = CompletionFormat(
            *(job.output.segment_tokens, job.output.token_ids, dtype),
            token_texts=batch,
            state_url=store.url,
        )
        session = Session(opened.loop, feeder, publisher, prompts.tokenizer, format, policy)
        return session, feeder, publisher

    def _fail(self, fault: Fault, error: Exception) -> None:
        ours = isinstance(error, RgpipelineError)
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        in_engine = self._threads is not None and self._threads[0].in_engine
        self._end = WorkerReport(
            progress_counter=0,
            error=message[:_MESSAGE_CHARACTERS],
            fault=fault,
            raised_at=_raised_at(error) if fault == "worker" else "",
            in_engine=in_engine,
        )


def _raised_at(error: Exception) -> str:
    """Type, file and line of an exception: the same text in every process."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
