"""What a worker counts: tokens, seconds, and how fast it is at which position."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rgpipeline.engine.loop import Loop
from rgpipeline.records import SampleKey


class WorkerStats:
    """Counters of the worker's thread; they only ever grow."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._prefill_s = 0.0
        self._decode_s = 0.0
        self._usual_decode_s: float | None = None  # of a step without prefill
        self._shortest_s: float | None = None  # of all steps that brought tokens
        self._tokens: defaultdict[int, float] = defaultdict(float)  # by power of two of position
        self._slot_seconds: defaultdict[int, float] = defaultdict(float)

    def step(self, seconds: float, prefills: int, decoded: bool) -> float | None:
        """One step of the loop. The device does both in turn, so the shares are reckoned.

        Returns decode's share; None where it can't be told. That is so of the first steps, most
        of whose time goes into compiling.
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
        """One call for texts to score."""
        self._prefill_s += seconds

    def emitted(self, tokens: int, position: int, seconds: float | None) -> None:
        """Tokens that one slot brought in a step; `position` is the first one's, from 0.

        `seconds`: what `step` returned. Without it, the tokens count for no speed.
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


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the engine; replaced as a whole."""

    slots: int = 0
    occupied: int = 0
    waiting: int = 0
    working_on: tuple[SampleKey, ...] = ()  # what to suspect if the process dies now
    latest: str = ""


def view_of(
    loop: Loop[Any, Any],
    latest: str,
    *,
    made_ready: SampleKey | None = None,
) -> View:
    """The engine before its next step.

    `made_ready` is the row that is being made ready. It, and what the step is about to read, count
    as worked on: it may be that which kills.
    """
    keys = [key for key in loop.working_on if isinstance(key, SampleKey)]
    if made_ready is not None:
        keys.append(made_ready)
    return View(loop.slots, loop.occupied, loop.waiting, tuple(keys), latest)
