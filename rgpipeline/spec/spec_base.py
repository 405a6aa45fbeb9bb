"""The base of every section of the job file, and the types that sections share."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from rgpipeline.addresses import plain_address

Auto = Literal["auto"]
Address = Annotated[str, AfterValidator(plain_address)]
Count = Annotated[int, Field(ge=1)]


class NamedUrl(NamedTuple):
    """A file, folder or glob, and the key of the job file that names it: `model.weights`."""

    key: str
    url: str


class Facts(TypedDict):
    """What documentation and other formats need to know of a field, beside its type."""

    example: str  # YAML
    unit: str  # empty where it has none, or its name says it
    openai: list[str] | None  # names in the requests of OpenAI and vLLM; None: its own name


def field(
    default: Any,
    about: str,
    example: str,
    unit: str = "",
    *,
    openai: Sequence[str] | None = None,
    **limits: Any,
) -> Any:
    """A field of a section with its `Facts`. `default`: `...` for a required field.

    `limits`: pydantic's, such as `ge=0`.
    """
    facts = Facts(example=example, unit=unit, openai=None if openai is None else list(openai))
    return Field(default, description=about, json_schema_extra=cast("Any", facts), **limits)


def facts_of(info: FieldInfo) -> Facts:
    """The `Facts` of a field made by `field`."""
    return cast("Facts", info.json_schema_extra)


class Spec(BaseModel):
    """Base of every section: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_is_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes` and `on` as true, which pydantic would accept as 1."""
        if isinstance(value, bool) and _is_number(
            cls.model_fields[info.field_name or ""].annotation
        ):
            raise ValueError(f"should be a number; found {value}")
        return value


def _is_number(annotation: Any) -> bool:
    """Whether a field of this type takes numbers."""
    return annotation in (int, float) or any(map(_is_number, get_args(annotation)))
