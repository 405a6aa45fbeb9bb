"""Engines for whole jobs: the one worked out by hand, slowed down, and some that misbehave."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgpipeline.engine.api import PrefillPack
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.errors import WeightsError
from rgpipeline.records import ResolvedSettings
from tests.fake_engine import FakeBlock, FakeBuffer, FakeEngine, FakeState

_BRISK_BLOCKS = 40  # before it crawls: a few shards' work
_CRAWL_S = 1.0  # a worker that makes no progress for much longer would be taken for a hung one


class SlowEngine(FakeEngine):
    """A block takes a given time; a prompt of nines ends the process, where that is asked for.

    After some blocks it crawls until `hurry` is there, so that a test acts in the midst of a job
    however fast the machine is.
    """

    def __init__(self, slots: int, block_s: float, poisoned: bool, hurry: Path | None) -> None:
        super().__init__(slots=slots)
        self.block_s = block_s
        self.poisoned = poisoned
        self.hurry = hurry

    def prefill(self, stage: FakeBuffer, pack: PrefillPack) -> FakeBuffer:
        if self.poisoned and (pack.tokens[:, :3] == 9).all(axis=1).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prefill(stage, pack)

    def decode(
        self, state: FakeState, features: SamplingFeatures, steps: int
    ) -> tuple[FakeState, FakeBlock]:
        time.sleep(self.block_s)
        if self.blocks >= _BRISK_BLOCKS and self.hurry is not None:
            crawl(self.hurry)
        return super().decode(state, features, steps)


def crawl(hurry: Path) -> None:
    """Waits for the file, but not for long."""
    until = time.monotonic() + _CRAWL_S
    while not hurry.exists() and time.monotonic() < until:
        time.sleep(0.02)


@dataclass(frozen=True)
class Opened:
    loop: Loop[Any, Any]
    settings: ResolvedSettings


@dataclass(frozen=True)
class Slow:
    """Opens slow engines, and notes each one's process and environment in `folder`.

    `crawling`: they are held in the midst of their work until they are told to `hurry`.
    """

    folder: Path
    block_s: float = 0.02
    slots: int = 4
    poisoned: bool = False
    crawling: bool = False

    def __call__(self, *_: Any) -> Opened:
        (self.folder / f"{os.getpid()}.pid").write_text(json.dumps(dict(os.environ)))
        hurry = self._hurry if self.crawling else None
        loop = Loop(SlowEngine(self.slots, self.block_s, self.poisoned, hurry))
        return Opened(loop, ResolvedSettings("float32", self.slots, 4, 3))

    def hurry(self) -> None:
        """From now on, no engine that notes itself in the same folder crawls."""
        self._hurry.touch()

    def processes(self) -> list[int]:
        """The processes that have opened an engine, in the order they did."""
        return [int(file.stem) for file in self._files()]

    def environments(self) -> list[dict[str, str]]:
        """The environments that these engines were opened in."""
        return [json.loads(file.read_text()) for file in self._files()]

    @property
    def _hurry(self) -> Path:
        return self.folder / "hurry"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.pid"), key=lambda file: file.stat().st_mtime_ns)


def unopenable(*_: Any) -> Opened:
    """A worker that can't start for want of weights: the person's mistake."""
    raise WeightsError("weights: no such folder")


def broken(*_: Any) -> Opened:
    """A worker that can't start, and it is nobody's mistake."""
    raise RuntimeError("no driver for this device")
