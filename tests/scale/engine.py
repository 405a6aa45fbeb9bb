"""An engine that answers every prompt with one token, at once."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.model.weights.model_source import ModelSource
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec
from tests.fake_engine import FakeBlock, FakeEngine, FakeState
from tests.worker.ten_tokens import Opened

_SLOTS = 256


class Measured(FakeEngine):
    """Notes its process's memory after every block, a line of MiB each: by work done, not time."""

    def __init__(self, notes: Path) -> None:
        super().__init__(slots=_SLOTS, steps=1, chunk=_SLOTS)
        self.pack_shapes = [(_SLOTS, 4)]
        self._notes, self._process = notes.open("w"), psutil.Process()

    def decode(
        self, state: FakeState, features: SamplingFeatures, steps: int
    ) -> tuple[FakeState, FakeBlock]:
        decoded = super().decode(state, features, steps)
        print(self._process.memory_info().rss / 2**20, file=self._notes, flush=True)
        return decoded


@dataclass(frozen=True)
class Instant:
    """Opens it; its notes are in `folder`."""

    folder: Path

    def __call__(
        self,
        source: ModelSource,
        engine: EngineSpec,
        resolved: ResolvedSettings | None = None,
    ) -> Opened:
        built = Measured(self.folder / f"{os.getpid()}.mib")
        return Opened(Loop(built), resolved or ResolvedSettings("float32", _SLOTS, 4, 1))
