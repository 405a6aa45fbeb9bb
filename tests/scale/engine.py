"""An engine that answers every prompt with one token, at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgpipeline.engine.loop import Loop
from rgpipeline.records import EngineSettings
from rgpipeline.spec import EngineSpec, ModelSpec
from tests.fake_engine import FakeEngine
from tests.worker.ten_tokens import Opened

_SLOTS = 256


@dataclass(frozen=True)
class Instant:
    """Opens it, and notes the process in `folder`."""

    folder: Path

    def __call__(
        self,
        model: ModelSpec,
        engine: EngineSpec,
        storage_options: Mapping[str, Mapping[str, Any]],
        settled: EngineSettings | None = None,
    ) -> Opened:
        (self.folder / f"{os.getpid()}.pid").touch()
        built = FakeEngine(slots=_SLOTS, steps=1, chunk=_SLOTS)
        built.pack_shapes = [(_SLOTS, 4)]
        return Opened(Loop(built), settled or EngineSettings("float32", _SLOTS, 4, 1))
