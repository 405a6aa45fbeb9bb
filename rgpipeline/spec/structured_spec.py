"""The `sampling.structured_outputs:` section: a grammar that a completion must follow."""

import json as json_text
import warnings
from typing import Any, Self

from pydantic import field_validator, model_validator

from rgpipeline.spec.spec_base import Spec, field

KINDS = ("json", "json_object", "regex", "choice", "grammar")

with warnings.catch_warnings():
    # `json` is vLLM's name. In pydantic it is an old method, which nothing here calls.
    warnings.filterwarnings("ignore", 'Field name "json"', UserWarning)

    class StructuredOutputs(Spec):
        """What a completion must be; exactly one of the fields. Hashable.

        Names and meanings are vLLM's.
        """

        json: str | None = field(  # type: ignore[assignment]
            None,
            "a JSON schema, as a section or as JSON text; in a job file also the address of a file "
            "that has one, which is read once",
            "{type: object, properties: {age: {type: integer}}, required: [age]}",
        )
        json_object: bool = field(False, "any JSON object", "true")
        regex: str | None = field(
            None, "a regular expression (Rust's syntax) for the whole text", "'[0-9]{4}'"
        )
        choice: tuple[str, ...] | None = field(None, "one of these texts", "[positive, negative]")
        grammar: str | None = field(
            None, "a context-free grammar in llguidance's variant of Lark", "'start: \"a\"+'"
        )

        @field_validator("json", mode="before")
        @classmethod
        def _schema_as_text(cls, value: Any) -> Any:
            """A schema as compact JSON text, so that equal ones are equal; an address as it is."""
            if value is None:
                return None
            if not isinstance(value, str | dict | bool):
                kind = "a list" if isinstance(value, list | tuple) else "a number"
                raise ValueError(f"{kind} is no JSON schema; give an object, or a file that has it")
            if isinstance(value, str):
                if not _is_schema(value):
                    return value
                value = parsed_schema(value)
            return schema_text(value)

        @field_validator("choice", mode="before")
        @classmethod
        def _choices_are_texts(cls, value: Any) -> Any:
            if isinstance(value, list | tuple):
                if not value:
                    raise ValueError("no text given; name one or more")
                odd = next((one for one in value if not isinstance(one, str)), None)
                if odd is not None:
                    raise ValueError(f"{odd!r} is not a text; put it in quotes")
            return value

        @field_validator("choice")
        @classmethod
        def _choices_differ(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
            seen: set[str] = set()
            for choice in value or ():
                if not choice:
                    raise ValueError("one of the texts is empty; remove it")
                if choice in seen:
                    raise ValueError(f"{choice!r} is given twice; remove one")
                seen.add(choice)
            return value

        @model_validator(mode="after")
        def _exactly_one(self) -> Self:
            given = [kind for kind in KINDS if getattr(self, kind) not in (None, False)]
            if len(given) != 1:
                found = " and ".join(given) or "none"
                raise ValueError(f"exactly one of {', '.join(KINDS)} is expected; found {found}")
            return self

        @property
        def kind(self) -> str:
            """The field that is given."""
            return next(kind for kind in KINDS if getattr(self, kind) not in (None, False))

        @property
        def address(self) -> str | None:
            """Where the schema is to be read from; None if it is here, or there is none."""
            schema: str | None = self.json
            return None if schema is None or _is_schema(schema) else schema


def parsed_schema(text: str) -> Any:
    """The schema in JSON text. Raises ValueError saying what is wrong."""
    try:
        value = json_text.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"not valid JSON ({reason})") from None
    if not isinstance(value, dict | bool):
        raise ValueError("holds JSON that is no schema; an object is needed")
    return value


def schema_text(schema: Any) -> str:
    """A schema as compact JSON text; the order of its keys is kept. Raises ValueError."""
    try:
        return json_text.dumps(schema, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except TypeError as error:
        raise ValueError(f"has a value that JSON lacks ({error})") from None


def _is_schema(text: str) -> bool:
    """Whether a text is meant as a schema, not as the address of one."""
    text = text.strip()
    return text.startswith("{") or text in ("true", "false")
