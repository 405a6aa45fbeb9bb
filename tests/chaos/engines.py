"""Engines for chaos jobs: each notes its process, and its worker saves at short intervals."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rgpipeline.worker.worker as worker
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.model.weights.model_source import ModelSource
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec
from rgpipeline.worker.shared import WorkerPolicy
from tests.fake_engine import FakeBlock, FakeState
from tests.worker.ten_tokens import Opened, TellingEngine

# Seconds in place of minutes, since workers here are killed soon.
SHORT_INTERVALS = WorkerPolicy(part_s=1.0, refresh_s=3.0, snapshot_s=2.0, snapshot_tokens=32)
_BLOCK_S = 0.01


class SlowEngine(TellingEngine):
    """The fake engine, at the pace of a small model."""

    def decode(
        self, state: FakeState, features: SamplingFeatures, steps: int
    ) -> tuple[FakeState, FakeBlock]:
        time.sleep(_BLOCK_S)
        return super().decode(state, features, steps)


@dataclass(frozen=True)
class Tracked:
    """Opens the job's model, or the fake engine, and notes the process."""

    folder: Path
    by_hand: bool
    short_intervals: bool = True

    def __call__(
        self,
        source: ModelSource,
        engine: EngineSpec,
        resolved: ResolvedSettings | None = None,
    ) -> Any:
        (self.folder / f"{os.getpid()}.pid").touch()
        if self.by_hand:
            built = SlowEngine(slots=6)
            return Opened(Loop(built), resolved or ResolvedSettings("float32", 6, 4, built.steps))
        from rgpipeline.engine import factory

        factory.use_compilation_cache(self.folder / "programs")
        return factory.open_engine(source, engine, resolved)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.folder, self.by_hand, self.short_intervals)


def _arrived(folder: Path, by_hand: bool, short_intervals: bool) -> Tracked:
    """Sets short intervals in the process in which it is unpickled."""
    if short_intervals:
        worker.WorkerPolicy = lambda: SHORT_INTERVALS  # type: ignore[assignment,misc]
    return Tracked(folder, by_hand, short_intervals)
