"""What others may see of a worker: its counters, and a view of its engine."""

from collections import defaultdict
from typing import Any, NamedTuple

from rgpipeline.engine.loop import Loop
from rgpipeline.records import SampleKey


class WorkerStats:
    """Tokens, seconds, and speed by position. All counters only grow."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._prefill_s = 0.0
        self._decode_s = 0.0
        self._usual_decode_s: float | None = None  # of steps without prefill
        self._shortest_s: float | None = None  # of all steps with tokens
        self._tokens: defaultdict[int, float] = defaultdict(float)  # by power of two of position
        self._slot_seconds: defaultdict[int, float] = defaultdict(float)

    def step(self, seconds: float, prefills: int, decoded: bool) -> float | None:
        """Counts one step of the loop, and estimates how its time divides into prefill and decode.

        Returns decode's share; None where it is unknown, as in the first steps, which spend most
        of their time on compiling.
        """
        usual = self._usual_decode_s
        if not prefills:
            self._decode_s += seconds
            if not decoded:
                return None
            self._usual_decode_s = seconds if usual is None else 0.9 * usual + 0.1 * seconds
            return seconds
        known = self._shortest_s if usual is None else usual
        if decoded:
            self._shortest_s = min(seconds, self._shortest_s or seconds)
        if not decoded or known is None:
            self._prefill_s += seconds
            return None
        decode = min(seconds, known)
        self._decode_s += decode
        self._prefill_s += seconds - decode
        return decode

    def read_texts(self, seconds: float) -> None:
        """Counts one call for texts."""
        self._prefill_s += seconds

    def emitted(self, tokens: int, position: int, seconds: float | None) -> None:
        """Counts the tokens of one slot in a step; `position` is that of the first, from 0.

        `seconds`: what `step` returned. When None, the tokens don't count for speed.
        """
        self.completion_tokens += tokens
        if seconds is None:
            return
        power = max(1, position).bit_length() - 1
        self._tokens[power] += tokens
        self._slot_seconds[power] += seconds

    def details(self) -> dict[str, float]:
        """Seconds of prefill and decode; tokens and slot-seconds by [2^k, 2^(k+1)) of position."""
        details = {"prefill_s": self._prefill_s, "decode_s": self._decode_s}
        for power, tokens in list(self._tokens.items()):
            details[f"position_{power}_tokens"] = tokens
            details[f"position_{power}_s"] = self._slot_seconds[power]
        return details


class EngineView(NamedTuple):
    """The engine at one moment; fields as in `WorkerReport`."""

    slots: int = 0
    occupied: int = 0
    waiting: int = 0
    working_on: tuple[SampleKey, ...] = ()
    latest_completion: str = ""


def view_of(
    loop: Loop[Any, Any], latest_completion: str, prepared: SampleKey | None = None
) -> EngineView:
    """The engine before its next step.

    `prepared`: the row that the feeder prepares now. It counts as worked on, as what the step is
    about to read does: should the process die, either may be the cause.
    """
    keys = [key for key in loop.working_on if isinstance(key, SampleKey)]
    if prepared is not None:
        keys.append(prepared)
    return EngineView(loop.slots, loop.occupied, loop.waiting, tuple(keys), latest_completion)
