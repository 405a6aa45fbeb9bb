"""A device's timeline under the engine that is worked out by hand.

As with a real accelerator, work is only handed over: `decode` returns at once, the block runs as
soon as the one before it has ended, and whoever reads it waits for its end. The device idles
where the next block is handed over too late, and never for what the host does meanwhile.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgpipeline.engine.decoded import DecodedBlock
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.records import ResolvedSettings
from tests.fake_engine import FakeEngine, FakeState
from tests.runtime.engines import Opened

_NOTE_EVERY = 10  # blocks
_LOOK_S = 0.5


@dataclass(frozen=True)
class PendingBlock:
    """A block that ends when it ends."""

    block: DecodedBlock
    end: float  # of the monotonic clock, which all processes of a machine share

    def read(self) -> DecodedBlock:
        time.sleep(max(0.0, self.end - time.monotonic()))
        return self.block


@dataclass(frozen=True)
class Note:
    """How far a device had come."""

    at: float  # the end of a block, on the monotonic clock
    blocks: int
    slots: int  # in use, summed over all blocks


class DeviceEngine(FakeEngine):
    """The fake engine on a device that takes a given time for each block."""

    def __init__(self, slots: int, block_s: float, notes: Path) -> None:
        super().__init__(slots=slots)
        self._block_s = block_s
        self._notes = notes.open("a")
        self._end = 0.0  # of the block handed over last
        self._in_use = 0

    def decode(
        self, state: FakeState, features: SamplingFeatures, steps: int
    ) -> tuple[FakeState, PendingBlock]:
        self._in_use += sum(slot.active for slot in state)
        state, block = super().decode(state, features, steps)
        self._end = max(self._end, time.monotonic()) + self._block_s
        if self.blocks % _NOTE_EVERY == 0:
            print(self._end, self.blocks, self._in_use, file=self._notes, flush=True)
        return state, PendingBlock(block.read(), self._end)


@dataclass(frozen=True)
class Devices:
    """Opens such engines, all `count` of them at the same moment."""

    folder: Path
    count: int
    slots: int
    block_s: float

    def __call__(self, *_: Any) -> Opened:
        notes = self.folder / f"{os.getpid()}.notes"
        loop = Loop(DeviceEngine(self.slots, self.block_s, notes))
        while len(list(self.folder.glob("*.notes"))) < self.count:
            time.sleep(_LOOK_S)
        return Opened(loop, ResolvedSettings("float32", self.slots, 4, 3))

    def notes(self) -> list[list[Note]]:
        """Of each device, in order."""
        return [_parsed(file.read_text()) for file in self.folder.glob("*.notes")]


def _parsed(text: str) -> list[Note]:
    fields = (line.split() for line in text.splitlines())
    return [Note(float(at), int(blocks), int(slots)) for at, blocks, slots in fields]
