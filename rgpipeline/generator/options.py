"""What callers write, as the job file's sections."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from rgpipeline.errors import UserError
from rgpipeline.jobfile import spec_faults
from rgpipeline.spec import Sampling, Spec

S = TypeVar("S", bound=Spec)
SamplingLike = Sampling | Mapping[str, Any]


def section(kind: type[S], where: str = "", /, **options: Any) -> S:
    """A section of the job file, of keyword arguments. Raises UserError naming every fault."""
    try:
        return kind(**options)
    except ValidationError as error:
        raise UserError("\n".join(spec_faults(error, kind, where))) from None


def samplings(sampling: SamplingLike | Sequence[SamplingLike] | None, count: int) -> list[Sampling]:
    """One for each of `count` prompts. Raises UserError."""
    if sampling is None or isinstance(sampling, Sampling | Mapping):
        return [_sampling({} if sampling is None else sampling, "sampling")] * count
    if len(sampling) != count:
        raise UserError(f"sampling: {len(sampling)} settings for {count} prompts")
    return [_sampling(one, f"sampling[{place}]") for place, one in enumerate(sampling)]


def _sampling(options: SamplingLike, where: str) -> Sampling:
    return options if isinstance(options, Sampling) else section(Sampling, where, **options)
