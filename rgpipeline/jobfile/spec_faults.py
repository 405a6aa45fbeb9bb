"""Pydantic's validation errors as messages for a person."""

import difflib
import reprlib
import types
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rgpipeline.errors import UserError
from rgpipeline.spec.spec_base import Spec

_SHOULD_BE = "Input should be "
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

S = TypeVar("S", bound=Spec)
KeyPath = Sequence[int | str]


def section(kind: type[S], where: str = "", /, **options: Any) -> S:
    """A section of the job file from keyword arguments. Raises UserError naming every fault."""
    try:
        return kind(**options)
    except ValidationError as error:
        raise UserError("\n".join(spec_faults(error, kind, where))) from None


def spec_faults(error: ValidationError, model: type[BaseModel], where: str = "") -> list[str]:
    """What is wrong with a section, one line for each key: `sampling.top_p: should be …`.

    `where` is put before the keys.
    """
    found: dict[str, list[ErrorDetails]] = {}
    for details in error.errors():
        found.setdefault(_spell(details["loc"], model, where), []).append(details)
    return [
        f"{key}: {_explain(details, model)}" if key else _explain(details, model)
        for key, details in found.items()
    ]


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that is a field's type, if it is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _optional_section(annotation: Any) -> type[BaseModel] | None:
    """As `model_in`, also for a section that may be null."""
    if get_origin(annotation) in (Union, types.UnionType):
        sections = [model_in(member) for member in get_args(annotation)]
        return next((section for section in sections if section is not None), None)
    return model_in(annotation)


def _spell(path: KeyPath, model: type[BaseModel], where: str) -> str:
    """The key of a fault as in the file, without pydantic's names of a union's members."""
    annotation: Any = model
    spelled = where
    for part in path:
        if part == "[key]":
            continue
        if get_origin(annotation) in (Union, types.UnionType) and isinstance(part, str):
            annotation = None  # `part` names the member that was tried
            continue
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}" if spelled else part
        annotation = _inner(annotation, part)
    return spelled


def _inner(annotation: Any, part: int | str) -> Any:
    section = model_in(annotation)
    if section is not None:
        field = section.model_fields.get(str(part))
        return (_optional_section(field.annotation) or field.annotation) if field else None
    return get_args(annotation)[-1] if get_origin(annotation) is dict else None


def _explain(details: Sequence[ErrorDetails], model: type[BaseModel]) -> str:
    kind, path = details[0]["type"], details[0]["loc"]
    if kind in ("extra_forbidden", "invalid_key"):
        return f"unknown key{_hint(path, model)}"
    if kind == "missing":
        field = _field(path, model)
        about = field.description if field else None
        return f"missing{f': {about}' if about else ''}"
    if kind == "string_pattern_mismatch":
        return (
            "should be of letters, digits, '.', '_' and '-', begin with a letter or digit and "
            f"have at most 63; found {_SHORT.repr(details[0]['input'])}"
        )
    messages = list(dict.fromkeys(one["msg"] for one in details))
    if not all(message.startswith(_SHOULD_BE) for message in messages):
        return "; ".join(message.removeprefix("Value error, ") for message in messages)
    wanted = " or ".join(map(_plain, messages))
    # Options may hold credentials, so their values aren't shown.
    found = "" if "storage_options" in path else f"; found {_SHORT.repr(details[0]['input'])}"
    return f"should be {wanted}{found}"


def _plain(message: str) -> str:
    """Pydantic's words without Python's: `a valid integer`."""
    message = message.removeprefix(_SHOULD_BE).split(", unable")[0]
    if "dictionary" in message:
        return "a section of key: value lines"
    return message.replace("tuple", "list")


def _hint(path: KeyPath, model: type[BaseModel]) -> str:
    """A hint: the key that may have been meant, or the section to which the key belongs."""
    key, section = str(path[-1]), _section(path, model)
    known = list(section.model_fields) if section else []
    if key.partition(":")[0] in known:
        return "; put a space after the colon"
    begun = [name for name in known if len(key) > 1 and name.startswith(key)]
    near = difflib.get_close_matches(key, known, n=1) or begun
    elsewhere = [path for path in _paths(model) if path.rpartition(".")[2] == key]
    meant = near or elsewhere
    if meant:
        return f"; did you mean {meant[0]!r}?"
    return f"; there are {', '.join(known)}" if known else ""


def _section(path: KeyPath, model: type[BaseModel]) -> type[BaseModel] | None:
    """The section that has the last key of a path."""
    section: type[BaseModel] | None = model
    for part in path[:-1]:
        field = section.model_fields.get(str(part)) if section else None
        section = _optional_section(field.annotation) if field else None
    return section


def _field(path: KeyPath, model: type[BaseModel]) -> FieldInfo | None:
    section = _section(path, model)
    return section.model_fields.get(str(path[-1])) if section else None


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        section = _optional_section(field.annotation)
        if section is not None:
            yield from _paths(section, f"{prefix}{name}.")
