"""The engine: a Griffin model and its compiled programs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from rgpipeline.engine.api import PrefillPack
from rgpipeline.engine.decoded import PendingBlock, PendingStep
from rgpipeline.engine.programs.device_programs import ROWS, DevicePrograms, Devices
from rgpipeline.engine.programs.forward import DeviceBlock
from rgpipeline.engine.programs.masked_step import DeviceStep
from rgpipeline.engine.programs.program_shapes import (
    pack_shapes_of,
    prefill_rows_of,
    rows_per_slot,
    score_block_of,
    text_rows_of,
)
from rgpipeline.engine.programs.score_head import DeviceHidden
from rgpipeline.engine.slot_fields import ENTRIES, ON_DEMAND, SamplingFeatures, SlotParams, rows_of
from rgpipeline.engine.slot_state import (
    SlotState,
    empty_fields,
    empty_slots,
    named_arrays,
    snapshot_fields,
    tree_of,
)
from rgpipeline.engine.step_tuner import MAX_STEPS
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.platforms import Kernels
from rgpipeline.model.sharding import shard_config
from rgpipeline.read_texts import StateKind
from rgpipeline.records import ResolvedSettings

Params = Any


class GriffinEngine:
    """`api.Engine` over a Griffin model, methods as described there; compiled at first use."""

    def __init__(
        self,
        config: GriffinConfig,
        params: Params,
        settings: ResolvedSettings,
        *,
        pack_tokens: int,
        kernels: Kernels = "plain",
        mesh: Mesh | None = None,
        fingerprint: str = "",
    ) -> None:
        """`pack_tokens`: tokens in one prefill call, at least `settings.prefill_chunk`.

        `mesh`: the chips, of `sharding.mesh_of`. `params` are divided among them already; the slots
        must be divisible (see `sharding.check_slots`). `kernels`: see `Griffin`. Both change how
        sums round, so one job keeps to one choice. `fingerprint`: of the parameters.
        """
        self.config = config
        self.settings = settings
        self._params = params
        self._fingerprint = fingerprint
        self._dtype = jnp.dtype(settings.dtype)
        self._quantized = settings.quantize == "int8"
        self._devices = devices = Devices.of(mesh)
        chips = devices.chips
        model = Griffin(shard_config(config, chips), self._dtype, kernels, chips)
        self._pack_shapes = pack_shapes_of(settings.prefill_chunk, pack_tokens, chips.count)
        self._any_steps = settings.steps_per_dispatch is None
        platform = devices.platform if kernels == "plain" else None
        self._rows_per_slot = rows_per_slot(settings, platform, chips.data)
        self.programs = DevicePrograms(model, devices, self.steps, self._any_steps)
        # A maker is compiled once for all of its calls.
        self._state_maker = cache(lambda features: devices.maker(self._empty(features)))
        fields = partial(empty_fields, self.decode_rows, config.vocab_size)
        self._field_maker = cache(lambda *wanted: devices.maker(partial(fields, *wanted)))
        self._make_prefill_buffer = devices.maker(partial(self._empty_rows, self.prefill_rows))
        self._make_text_buffer = devices.maker(partial(self._empty_rows, self.text_rows))

    @property
    def slots(self) -> int:
        return self.settings.slots

    @property
    def decode_rows(self) -> int:
        """Rows of the decode program: those of the slots, and any idle ones between them."""
        return self.slots * self._rows_per_slot

    @property
    def prefill_rows(self) -> int:
        return prefill_rows_of(self.slots, self._pack_shapes, self.parts)

    @property
    def text_rows(self) -> int:
        return text_rows_of(self._pack_shapes, self.parts)

    @property
    def steps(self) -> int:
        return self.settings.steps_per_dispatch or MAX_STEPS

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return self.config.eos_ids

    @property
    def state_kind(self) -> StateKind:
        s, window, size = self.settings, self.config.window, self.config.vocab_size
        return StateKind(self._fingerprint, s.dtype, s.quantize, window, size, s.prefill_chunk)

    @property
    def pack_shapes(self) -> Sequence[tuple[int, int]]:
        return self._pack_shapes

    @property
    def parts(self) -> int:
        return self._devices.chips.count

    def shapes(self, features: SamplingFeatures) -> SlotState:
        """The shapes of what `init` returns."""
        shapes: SlotState = jax.eval_shape(self._empty(features))
        return shapes

    def buffer_shapes(self) -> GriffinState:
        """The shapes of what `init_prefill_buffer` returns."""
        shapes: GriffinState = jax.eval_shape(partial(self._empty_rows, self.prefill_rows))
        return shapes

    def init(self, features: SamplingFeatures) -> SlotState:
        state: SlotState = self._state_maker(features)()
        return state

    def widen(self, state: SlotState, features: SamplingFeatures) -> SlotState:
        grown = tuple(
            name
            for name in ON_DEMAND
            if ENTRIES[name].row_shape(self.vocab_size, features)
            != getattr(state.slots, name).shape[1:]
        )
        made = self._field_maker(features, grown)()
        added = {name: getattr(made, name) for name in grown}
        return state._replace(slots=replace(state.slots, **added))

    def assign(self, state: SlotState, params: Mapping[int, SlotParams | None]) -> SlotState:
        rows = {slot * self._rows_per_slot: one for slot, one in params.items()}
        state = self.programs.assign(state, *rows_of(self.decode_rows, rows))
        shapes = {name: getattr(state.slots, name).shape[1:] for name in ON_DEMAND}
        if not any(math.prod(shape) for shape in shapes.values()):
            return state
        for row, one in rows.items():
            if one is not None:
                wide = {name: ENTRIES[name].row(name, one, shapes[name]) for name in shapes}
                state = self.programs.assign_row(state, row, wide)
        return state

    def decode(
        self, state: SlotState, features: SamplingFeatures, steps: int
    ) -> tuple[SlotState, PendingBlock]:
        number = (np.int32(steps),) if self._any_steps else ()
        state, rows = self.programs.decode(features)(self._params, state, *number)
        return state, DeviceBlock(rows, steps, self._rows_per_slot)

    def forward(self, state: SlotState) -> tuple[SlotState, PendingStep[SlotState]]:
        slots = state.slots
        model, made = self.programs.forward(self._params, state.model, slots.token, slots.active)
        step = DeviceStep(self.programs.draw, self._params, made, self._rows_per_slot)
        return state._replace(model=model), step

    def init_prefill_buffer(self) -> GriffinState:
        return self._make_prefill_buffer()

    def prefill(self, buffer: GriffinState, pack: PrefillPack) -> GriffinState:
        return self.programs.prefill(
            self._params, buffer, pack.tokens, pack.lengths, pack.buffer_rows, pack.fresh
        )

    def insert(self, state: SlotState, slot: int, buffer: GriffinState, row: int) -> SlotState:
        return self.programs.insert(state, slot * self._rows_per_slot, buffer, row)

    def copy_row(self, buffer: GriffinState, row: int) -> GriffinState:
        return self.programs.copy_row(buffer, row)

    def write_row(self, buffer: GriffinState, row: int, copied: GriffinState) -> GriffinState:
        return self.programs.write_row(buffer, row, copied)

    def restore(self, state: SlotState, slot: int, copied: GriffinState) -> SlotState:
        return self.programs.restore(state, slot * self._rows_per_slot, copied)

    def download(self, state: SlotState, slot: int) -> Mapping[str, NDArray[np.generic]]:
        """See `api.Engine.download`: names are the model state's paths and the fields'."""
        row = slot * self._rows_per_slot
        return named_arrays(self.copy_row(state.model, row)) | snapshot_fields(state.slots, row)

    def download_row(self, copied: GriffinState) -> Mapping[str, NDArray[np.generic]]:
        return named_arrays(copied)

    def upload(self, arrays: Mapping[str, NDArray[np.generic]]) -> GriffinState:
        return self._devices.put(tree_of(arrays, self._row_shapes), ROWS)

    @cached_property
    def _row_shapes(self) -> GriffinState:
        shapes: GriffinState = jax.eval_shape(partial(self._empty_rows, 1))
        return shapes

    def wait(self, buffer: GriffinState) -> None:
        buffer.position.low.block_until_ready()

    def init_text_buffer(self) -> GriffinState:
        return self._make_text_buffer()

    def read(self, buffer: GriffinState, pack: PrefillPack) -> tuple[GriffinState, DeviceHidden]:
        buffer, hidden = self.programs.read(
            self._params, buffer, pack.tokens, pack.lengths, pack.buffer_rows, pack.fresh
        )
        groups = self._devices.chips.data
        block = score_block_of(self._pack_shapes, groups, self._devices.platform)
        return buffer, DeviceHidden(hidden, self.programs, self._params, block, groups)

    def _empty(self, features: SamplingFeatures) -> Callable[[], SlotState]:
        return partial(
            empty_slots, self.config, self.decode_rows, self._dtype, features, self._quantized
        )

    def _empty_rows(self, count: int) -> GriffinState:
        """Empty model states."""
        return init_state(self.config, count, self._dtype, self._quantized)
