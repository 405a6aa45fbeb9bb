"""How a run ended."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What `run` returns. Rows and tokens are the whole job's, as published."""

    outcome: Outcome
    exit_code: (
        int  # 0 all rows done, 1 failed, 2 the user's mistake, 3 failed rows, 130 interrupted
    )
    message: str  # why, in one line or a few; empty when all is well
    rows: int
    rows_done: int  # without an error
    rows_failed: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float  # of this run
    tokens_per_second: float  # of this run, from its first token on
    generated_tokens: int  # by this run
    output: str  # url
    already_done: bool = False  # there was nothing to do
    warning: str = ""  # what to know of the rows, such as ids that several have
