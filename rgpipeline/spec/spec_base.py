"""The base of every section of the job file, and the types that sections share."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from rgpipeline.addresses import plain_address

Auto = Literal["auto"]
Address = Annotated[str, AfterValidator(plain_address)]
Count = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """Base of every section: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """YAML's `yes` and `on` are true, which Python would take for 1."""
        if isinstance(value, bool) and _is_number(
            cls.model_fields[field.field_name or ""].annotation
        ):
            raise ValueError(f"should be a number; found {value}")
        return value


def _is_number(annotation: Any) -> bool:
    """Whether a field of this type takes numbers."""
    return annotation in (int, float) or any(map(_is_number, get_args(annotation)))
