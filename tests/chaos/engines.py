"""Engines of a job that is to be killed: each notes its process, and its worker saves hastily."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rgpipeline.worker.worker as worker
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, ModelSpec
from rgpipeline.worker.shared import WorkerPolicy
from tests.fake_engine import FakeBlock, FakeState
from tests.worker.ten_tokens import Opened, TellingEngine

# What takes minutes in earnest takes a second here: lives are short.
HASTY = WorkerPolicy(part_s=1.0, refresh_s=3.0, snapshot_s=2.0, snapshot_tokens=32)
_BLOCK_S = 0.01


class SlowEngine(TellingEngine):
    """The engine worked out by hand, at the pace of a small model."""

    def decode(
        self, state: FakeState, features: SamplingFeatures, steps: int
    ) -> tuple[FakeState, FakeBlock]:
        time.sleep(_BLOCK_S)
        return super().decode(state, features, steps)


@dataclass(frozen=True)
class Tracked:
    """Opens the job's model, or the engine worked out by hand, and notes the process."""

    folder: Path
    by_hand: bool
    hasty: bool = True

    def __call__(
        self,
        model: ModelSpec,
        engine: EngineSpec,
        storage_options: Mapping[str, Mapping[str, Any]],
        resolved: ResolvedSettings | None = None,
    ) -> Any:
        (self.folder / f"{os.getpid()}.pid").touch()
        if self.by_hand:
            built = SlowEngine(slots=6)
            return Opened(Loop(built), resolved or ResolvedSettings("float32", 6, 4, built.steps))
        from rgpipeline.engine import factory

        factory.use_compilation_cache(self.folder / "programs")
        return factory.open_engine(model, engine, storage_options, resolved)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.folder, self.by_hand, self.hasty)


def _arrived(folder: Path, by_hand: bool, hasty: bool) -> Tracked:
    """Where it is unpickled, workers are hasty."""
    if hasty:
        worker.WorkerPolicy = lambda: HASTY  # type: ignore[assignment,misc]
    return Tracked(folder, by_hand, hasty)
