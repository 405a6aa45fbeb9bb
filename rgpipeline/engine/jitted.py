"""An engine's programs, compiled at first use for the chips they run on."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rgpipeline.engine import moves, programs
from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.engine.on_chips import PARAMS, ROWS, STATE, OnChips, by_slot, by_step, everywhere
from rgpipeline.model.layers.griffin import Griffin


class Jitted:
    """The functions of `programs` and `moves`; each takes what follows the model or the chips.

    A state that is given to one that changes it is given up.
    """

    def __init__(self, model: Griffin, on: OnChips, steps: int, any_number: bool) -> None:
        """`steps` in a decode block; at most, if it may have any number of them."""
        self._model = model
        self._on = on
        self._steps = steps
        self._given = (PARAMS, STATE, everywhere) if any_number else (PARAMS, STATE)
        self._decode: dict[SamplingFeatures, Callable[..., Any]] = {}
        changes = partial(on.jit, made=_state_first)
        self.prefill = on.jit(
            partial(programs.prefill, model),
            (PARAMS, STATE, by_slot, by_slot, by_slot, by_slot),
            lambda params, stage, *_: stage,
            donated=(1,),
        )
        self.score = on.jit(
            partial(programs.score, model),
            (PARAMS, STATE, by_slot, by_slot, by_slot, by_slot),
            lambda params, stage, *others: (stage, others[0]),
            donated=(1,),
        )
        self.log_probabilities = on.jit(
            partial(programs.log_probabilities, model),
            (PARAMS, by_slot, by_slot, by_slot),
            lambda params, *others: others[0],
        )
        self.assign = changes(programs.assign, (STATE, by_slot, by_slot), donated=(0,))
        self.assign_rows = changes(
            partial(moves.assign_vocabulary_rows, on.chips),
            (STATE, everywhere, everywhere, everywhere),
            donated=(0,),
        )
        self.insert = changes(
            partial(moves.insert, on.chips), (STATE, everywhere, ROWS), donated=(0,)
        )
        self.seat = changes(
            partial(moves.seat, on.chips), (STATE, everywhere, STATE, everywhere), donated=(0,)
        )
        self.put = changes(partial(moves.put, on.chips), (STATE, everywhere, ROWS), donated=(0,))
        self.extract = on.jit(
            partial(moves.extract, on.chips), (STATE, everywhere), lambda states, _: ROWS(states)
        )

    def decode(self, features: SamplingFeatures) -> Callable[..., Any]:
        """The decode block (params, state) -> (state, steps) for these features.

        One that may have any number of steps takes the number as a third argument.
        """
        if features not in self._decode:
            program = partial(programs.decode, self._model, most=self._steps, features=features)
            self._decode[features] = self._on.jit(
                program,
                self._given,
                lambda _, state, *__: (state, by_step(None)),
                donated=(1,),
            )
        return self._decode[features]

    def often(self, features: SamplingFeatures) -> Mapping[str, Any]:
        """What a job of these features calls again and again."""
        return {
            "decode": self.decode(features),
            "prefill": self.prefill,
            "seat": self.seat,
            "assign": self.assign,
        }


def _state_first(state: Any, *_: Any) -> Any:
    return state
