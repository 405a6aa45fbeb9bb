"""The `sampling:` section: how tokens are drawn."""

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.spec.spec_base import Spec, facts_of, field
from rgpipeline.spec.structured_spec import StructuredOutputs

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
MAX_LOGPROBS = 20


class Sampling(Spec):
    """How tokens are drawn; one for the job, with overrides for single rows.

    Order of operations, for every token: logit bias, repetition, presence and frequency
    penalties, temperature, then top-k, top-p and min-p cut the distribution, then one draw.
    """

    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = field(
        256,
        "tokens to generate at most; 0 only reads the prompt; null runs until stopped",
        "1000000",
        "tokens",
        openai=("max_tokens", "max_completion_tokens"),
    )
    min_tokens: int = field(
        0, "end-of-sequence and stops are ignored before so many tokens", "16", "tokens", ge=0
    )
    temperature: float = field(1.0, "0 is greedy", "0.7", ge=0.0, le=100.0)
    top_k: int = field(0, "keep the k most probable tokens; 0 keeps all", "40", "tokens", ge=0)
    top_p: Fraction = field(
        1.0, "keep the smallest set with this much probability", "0.95", "probability"
    )
    min_p: float = field(
        0.0,
        "drop tokens below this share of the most probable one",
        "0.05",
        "share",
        ge=0.0,
        lt=1.0,
    )
    repetition_penalty: float = field(
        1.0,
        "divides the logits of tokens seen in prompt or output",
        "1.1",
        "factor",
        gt=0.0,
        le=100.0,
    )
    presence_penalty: float = field(
        0.0,
        "subtracted once from every token generated before",
        "0.5",
        "logit",
        ge=-100.0,
        le=100.0,
    )
    frequency_penalty: float = field(
        0.0, "subtracted for every time a token was generated", "0.2", "logit", ge=-100.0, le=100.0
    )
    logit_bias: dict[TokenId, float] = field(
        {}, "token id to a number added to its logit", "{1234: -100}", "logit"
    )
    seed: int = field(
        0, "with the row's id, sample and position, it determines every draw", "7", ge=0, lt=2**63
    )
    n: Annotated[int, Field(ge=1, le=1024)] = field(1, "samples of each prompt", "8", "samples")
    stop: tuple[str, ...] = field(
        (),
        "strings that end a completion; not part of it. One that names a token "
        "without text, such as `<eos>`, is that token's id, too",
        '["\\n\\n", "END"]',
    )
    stop_ids: tuple[TokenId, ...] = field(
        (), "token ids that end a completion", "[107]", "token ids", openai=("stop_token_ids",)
    )
    ignore_eos: bool = field(False, "continue after the end-of-sequence token", "true")
    logprobs: int = field(
        0,
        "0 none; 1 the sampled token's; k also the k most probable; "
        "task score: 1 adds the token_logprobs column",
        "5",
        "tokens",
        openai=(),
        ge=0,
        le=MAX_LOGPROBS,
    )
    structured_outputs: StructuredOutputs | None = field(
        None, "a grammar that the completion must follow", "{choice: [positive, negative]}"
    )

    @field_validator("stop", "stop_ids", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("stop_ids", "logit_bias", mode="before")
    @classmethod
    def _no_boolean_is_a_token(cls, value: Any) -> Any:
        """YAML reads `yes` and `on` as true, also within a list and as a key."""
        for token in value if isinstance(value, list | tuple | dict) else (value,):
            if isinstance(token, bool):
                raise ValueError(f"{token} is no token id; give whole numbers")
        return value

    @field_validator("stop")
    @classmethod
    def _stops_are_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not stop for stop in value):
            raise ValueError("a stop string is empty; remove it")
        return value

    @model_validator(mode="after")
    def _min_below_max(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(
                f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}; lower it"
            )
        return self


def openai_names() -> dict[str, str]:
    """Our name of each sampling parameter in the requests of OpenAI and vLLM, by its name there.

    Where a request gives several names of one parameter, the last one here counts.
    """
    names: dict[str, str] = {}
    for name, info in Sampling.model_fields.items():
        theirs = facts_of(info)["openai"]
        names |= dict.fromkeys([name] if theirs is None else theirs, name)
    return names
