"""The `sampling:` section: how tokens are drawn."""

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.spec.spec_base import Spec

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


class Sampling(Spec):
    """How tokens are drawn; one for the job, with overrides for single rows.

    Order of operations, for every token: logit bias, repetition, presence and frequency
    penalties, temperature, then top-k, top-p and min-p cut the distribution, then one draw.
    """

    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        256, description="tokens to generate at most; null runs until stopped"
    )
    min_tokens: int = Field(0, ge=0, description="end-of-sequence and stops are ignored before it")
    temperature: float = Field(1.0, ge=0.0, le=100.0, description="0 is greedy")
    top_k: int = Field(0, ge=0, description="keep the k most probable tokens; 0 keeps all")
    top_p: Fraction = Field(1.0, description="keep the smallest set with this much probability")
    min_p: float = Field(
        0.0, ge=0.0, lt=1.0, description="drop tokens below this share of the most probable one"
    )
    repetition_penalty: float = Field(
        1.0, gt=0.0, le=100.0, description="divides the logits of tokens seen in prompt or output"
    )
    presence_penalty: float = Field(
        0.0, ge=-100.0, le=100.0, description="subtracted once from every token generated before"
    )
    frequency_penalty: float = Field(
        0.0, ge=-100.0, le=100.0, description="subtracted for every time a token was generated"
    )
    logit_bias: dict[TokenId, float] = Field(
        default_factory=dict, description="token id to a number added to its logit"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="with id, sample and position: every draw")
    n: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="samples of each prompt")
    stop: tuple[str, ...] = Field(
        (),
        description="strings that end a completion; not part of it. One that names a token "
        "without text, such as `<eos>`, is that token's id, too",
    )
    stop_ids: tuple[TokenId, ...] = Field((), description="token ids that end a completion")
    ignore_eos: bool = Field(False, description="go on after the end-of-sequence token")
    logprobs: int = Field(
        0,
        ge=0,
        le=20,
        description="0 none; 1 the sampled token's; k also the k most probable; "
        "task score: 1 adds the token_logprobs column",
    )

    @field_validator("stop", "stop_ids", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("stop_ids", "logit_bias", mode="before")
    @classmethod
    def _yes_is_no_token(cls, value: Any) -> Any:
        """Nor is it one within a list, or as a key."""
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
