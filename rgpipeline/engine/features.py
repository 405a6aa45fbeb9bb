"""What a decode program must be able to do, so that a plain job doesn't pay for the rest."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from rgpipeline.spec import Sampling


@dataclass(frozen=True, slots=True)
class SamplingFeatures:
    """Static features of a compiled sampler."""

    draws: bool = False  # any temperature above 0
    truncates: bool = False  # top-k, top-p or min-p
    penalties: bool = False  # repetition, presence or frequency
    bias: bool = False
    bans: bool = False  # min_tokens: stop ids can't be drawn at first
    logprobs: int = 0  # 0 none, 1 the sampled token's, k > 1 also the k most probable

    @property
    def read_logits(self) -> bool:
        """Whether a token, or what is told of it, depends on more than the model's distribution."""
        shapes = self.truncates or self.penalties or self.bias or self.bans
        return shapes or self.logprobs > 0

    def __or__(self, other: "SamplingFeatures") -> "SamplingFeatures":
        """Features that do what either does."""
        return SamplingFeatures(
            **{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        )

    @classmethod
    def of(cls, sampling: Sampling) -> "SamplingFeatures":
        """The features one request needs."""
        return cls(
            draws=sampling.temperature > 0,
            truncates=sampling.temperature > 0
            and (sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0),
            penalties=sampling.repetition_penalty != 1
            or sampling.presence_penalty != 0
            or sampling.frequency_penalty != 0,
            bias=bool(sampling.logit_bias),
            bans=sampling.min_tokens > 0,
            logprobs=sampling.logprobs,
        )

    @classmethod
    def union(cls, samplings: Iterable[Sampling]) -> "SamplingFeatures":
        """The features all of these need together."""
        features = cls()
        for sampling in samplings:
            features = features | cls.of(sampling)
        return features
