"""The table of what the device keeps for each slot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.decoder import params_of
from rgpipeline.engine.programs.device_programs import STATE
from rgpipeline.engine.sequence import Sequence
from rgpipeline.engine.slot_fields import (
    ENTRIES,
    IN_PROMPT,
    SamplingFeatures,
    SlotFields,
    SlotParams,
    rows_of,
)
from rgpipeline.engine.slot_state import assign, empty_fields, empty_slots
from rgpipeline.model.collectives import CHIPS, DATA
from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig, cycle
from rgpipeline.records import Request, Snapshot
from rgpipeline.spec import Sampling

VOCAB = 20
PROMPT = np.array([2, 7, 7], np.int32)
ASKED = Sampling(temperature=0.5, top_k=2**40, min_p=0.1, logit_bias={3: 1.5}, min_tokens=4)


def params(**more: object) -> SlotParams:
    return SlotParams(PROMPT, ASKED, (1, 2**32 - 1), 9, **more)


def wide_row(name: str, of: SlotParams) -> list[float]:
    return ENTRIES[name].row(name, of, (VOCAB,)).tolist()


def test_a_request_fills_its_slots_row_of_every_field_that_is_always_there() -> None:
    chosen, rows = rows_of(3, {1: params(stop_ids=(0, 5)), 2: None})

    assert chosen.tolist() == [False, True, True]
    assert rows["active"].tolist() == [False, True, False]
    assert (rows["token"][1], rows["remaining"][1]) == (7, 9)
    assert rows["stop_ids"][1].tolist() == [0, 5] + [-1] * 14
    assert rows["draw"][1].tolist() == [1, 2**32 - 1]
    assert rows["top_k"][1] == 2**31 - 1  # as good as any larger number
    assert (rows["temperature"][1], rows["top_p"][1]) == (0.5, 1)
    assert not {"logit_bias", "seen"} & rows.keys()


def test_arrays_of_the_vocabulary_are_there_only_for_a_feature_that_reads_them() -> None:
    def shapes(features: SamplingFeatures) -> list[tuple[int, ...]]:
        slots = jax.eval_shape(lambda: empty_fields(4, VOCAB, features))
        return [slots.logit_bias.shape, slots.seen.shape]

    assert shapes(SamplingFeatures()) == [(4, 0), (4, 0)]
    assert shapes(SamplingFeatures(bias=True)) == [(4, VOCAB), (4, 0)]
    assert shapes(SamplingFeatures(penalties=True)) == [(4, 0), (4, VOCAB)]


def test_a_slot_knows_its_bias_and_its_prompts_tokens() -> None:
    assert np.flatnonzero(wide_row("logit_bias", params())).tolist() == [3]
    assert np.flatnonzero(wide_row("seen", params())).tolist() == [2, 7]
    assert set(wide_row("seen", params())) == {0, IN_PROMPT}


def test_a_resumed_sequence_goes_on_from_its_snapshots_fields() -> None:
    seen = np.arange(VOCAB, dtype=np.int64)
    snapshot = Snapshot({"token": np.int32(11), "seen": seen}, generated=3)
    resumed = params_of(Sequence(Request("a", PROMPT, ASKED, (1, 2), snapshot), []), ())

    _, rows = rows_of(1, {0: resumed})

    assert (rows["token"][0], rows["banned_for"][0]) == (11, 1)
    assert wide_row("seen", resumed) == seen.tolist()


def test_a_snapshot_without_counts_has_them_from_the_prompt() -> None:
    resumed = params(snapshot={"token": np.int32(11)})

    assert np.flatnonzero(wide_row("seen", resumed)).tolist() == [2, 7]


def test_only_the_slots_chosen_are_assigned() -> None:
    config = GriffinConfig(VOCAB, 16, 32, 2, 16, cycle(GRIFFIN_CYCLE, 3), window=8)
    state = empty_slots(config, 3, jnp.dtype(jnp.float32), SamplingFeatures())

    slots = assign(state, *rows_of(3, {1: params()})).slots

    assert slots.token.tolist() == [0, 7, 0]
    assert slots.repetition_penalty.tolist() == [1, 1, 1]
    assert slots.stop_ids.tolist() == [[-1] * 16] * 3


@pytest.mark.parametrize("name", ENTRIES)
def test_a_field_is_divided_among_chips_as_its_entry_says(name: str) -> None:
    slots = jax.eval_shape(lambda: empty_fields(4, VOCAB, SamplingFeatures(True, *[True] * 4)))
    specs: SlotFields = STATE(slots)

    assert getattr(specs, name)[0] == (CHIPS if ENTRIES[name].by_chip else DATA)
