"""What callers write, as the job file's sections."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from rgpipeline.errors import UserError
from rgpipeline.generator.prompts import kind_of, listed, plain
from rgpipeline.jobfile import spec_faults
from rgpipeline.spec import Sampling, Spec

S = TypeVar("S", bound=Spec)
SamplingLike = Sampling | Mapping[str, Any]

# What a job file calls `model.tokenizer` is an argument of Generator.load.
IN_PYTHON = {"model.tokenizer": "tokenizer=", "model.chat_template": "chat_template="}


def section(kind: type[S], where: str = "", /, **options: Any) -> S:
    """A section of the job file, of keyword arguments. Raises UserError naming every fault."""
    try:
        return kind(**options)
    except ValidationError as error:
        raise UserError("\n".join(spec_faults(error, kind, where))) from None


def samplings(
    sampling: SamplingLike | Sequence[SamplingLike | None] | None, count: int
) -> list[Sampling]:
    """One for each of `count` prompts. Raises UserError.

    In a list None means the defaults. So does a null field of an Arrow struct, for every row of
    its column has every field.
    """
    if sampling is None or isinstance(sampling, Sampling | Mapping):
        return [_sampling({} if sampling is None else sampling, "sampling")] * count
    wanted = "a dict of sampling keys, or a list with one for each prompt"
    each = listed(sampling, "sampling", wanted)
    if len(each) != count:
        raise UserError(f"sampling: {len(each)} settings for {count} prompts")
    return [_sampling(one, f"sampling[{place}]") for place, one in enumerate(each)]


def _sampling(options: object, where: str) -> Sampling:
    if isinstance(options, Sampling):
        return options
    given = plain(options)
    if given is None:
        return Sampling()
    if not isinstance(given, Mapping):
        raise UserError(f"{where} is {kind_of(given)}; give a dict of sampling keys")
    from_arrow = given is not options
    keys = {str(k): v for k, v in given.items() if not (from_arrow and v is None)}
    return section(Sampling, where, **keys)
