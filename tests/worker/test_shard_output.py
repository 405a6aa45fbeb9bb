"""When what has gathered for a shard is published."""

from pathlib import Path

import numpy as np
import pytest

from rgpipeline.io.log import ShardLog
from rgpipeline.records import OutputRow, SampleKey, Snapshot
from rgpipeline.storage.store import open_store
from rgpipeline.worker.part_writer import Save, ShardOutput
from rgpipeline.worker.shared import WorkerPolicy

POLICY = WorkerPolicy(part_s=30.0, save_s=1.0)
STATE = Save(SampleKey(0, 0, 0), Snapshot({"total": np.zeros(1)}, generated=16), notes={})


@pytest.fixture
def output(tmp_path: Path) -> ShardOutput:
    output = ShardOutput(ShardLog(open_store(str(tmp_path)), 0), refreshed=0.0)
    output.add([OutputRow(0, "a", completion="x")], now=0.0)
    return output


def test_a_row_waits_for_others(output: ShardOutput) -> None:
    assert output.due_at(POLICY) == 30.0


def test_a_state_is_saved_soon_and_the_rows_before_it_with_it(output: ShardOutput) -> None:
    output.save(STATE, now=0.0)
    assert output.due_at(POLICY) == 1.0
