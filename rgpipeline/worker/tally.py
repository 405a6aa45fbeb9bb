"""What a worker counts: tokens, seconds, and how fast it is at which position."""

from collections import defaultdict


class Tally:
    """Counters of the worker's thread; they only ever grow."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._prefill_s = 0.0
        self._decode_s = 0.0
        self._usual_decode_s: float | None = None  # of a step without prefill
        self._tokens: defaultdict[int, float] = defaultdict(float)  # by power of two of position
        self._slot_seconds: defaultdict[int, float] = defaultdict(float)

    def step(self, seconds: float, prefills: int, decoded: bool) -> None:
        """One step of the loop. The device does both in turn, so the shares are reckoned."""
        if not prefills:
            usual = self._usual_decode_s
            self._usual_decode_s = seconds if usual is None else 0.9 * usual + 0.1 * seconds
            self._decode_s += seconds
            return
        decode = min(seconds, self._usual_decode_s or 0.0) if decoded else 0.0
        self._decode_s += decode
        self._prefill_s += seconds - decode

    def scored(self, seconds: float, tokens: int) -> None:
        """Texts of so many tokens were scored."""
        self._prefill_s += seconds
        self.prompt_tokens += tokens

    def emitted(self, tokens: int, position: int, seconds: float) -> None:
        """Tokens that one slot brought in a step; `position` is the first one's, from 0."""
        self.completion_tokens += tokens
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
