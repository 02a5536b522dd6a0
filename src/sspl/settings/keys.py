"""Every setting of a model by its path: which values there are, the default, and what it is for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_OR_NULL: Final = ", or null"
_PLAIN: Final = {
    bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path",
}  # fmt: skip
_BOUNDS: Final = (
    ("ge", "from"), ("gt", "above"), ("le", "up to"), ("lt", "below"), ("multiple_of", "by"),
)  # fmt: skip


@dataclass(frozen=True)
class Key:
    """A setting as people look it up.

    Args:
        name: its path, such as `optim.epochs`; below a list it has [], below names NAME.
        kind: which values there are, in words.
        default: its value unless given, as YAML; empty where it must be given.
        says: what it is for.
    """

    name: str
    kind: str
    default: str
    says: str


def keys_of(
    settings: BaseModel | type[BaseModel], prefix: str = "", without: str = ""
) -> list[Key]:
    """Return every setting of a model in its order, those of nested models below it.

    The defaults are the values of `settings`, where that is no class. What lies below the key
    `without` is left out.
    """
    if isinstance(settings, type):
        required = any(field.is_required() for field in settings.model_fields.values())
        settings = settings.model_construct() if required else settings()
    found = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name, PydanticUndefined)
        if name != without:
            found += _keys_below(f"{prefix}{name}", field, value)
    return found


def _keys_below(path: str, field: FieldInfo, value: Any) -> list[Key]:
    if isinstance(value, BaseModel):
        return keys_of(value, f"{path}.")
    if isinstance(value, Mapping) and any(isinstance(part, BaseModel) for part in value.values()):
        return [key for name, part in value.items() for key in keys_of(part, f"{path}.{name}.")]
    kind = _kind(field.annotation)
    plain = kind.removesuffix(_OR_NULL)
    kind = plain + _range(field.metadata) + kind.removeprefix(plain)
    default = "" if value is PydanticUndefined else _flow(field, value)
    keys = [Key(path, kind, default, field.description or "")]
    for model, mark in _models_in(field.annotation):
        keys += keys_of(model.model_construct(), f"{path}{mark}.")
    return keys


def _flow(field: FieldInfo, value: Any) -> str:
    """Return a value as one writes it behind key=, on one line."""
    kind: Any = field.annotation
    plain = TypeAdapter(kind).dump_python(value, mode="json")
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _kind(annotation: Any) -> str:
    """Return what values an annotation stands for, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(str(value) for value in arguments)
    if origin is Annotated:
        return f"{_kind(arguments[0])}{_range(arguments[1:])}"
    if origin in (Union, UnionType):
        kinds = " or ".join(_kind(part) for part in arguments if part is not NoneType)
        return kinds + (_OR_NULL if NoneType in arguments else "")
    if origin is tuple:
        parts = ("..." if part is Ellipsis else _kind(part) for part in arguments)
        return f"[{', '.join(parts)}]"
    if origin is dict:
        return f"{{{_kind(arguments[0])}: {_kind(arguments[1])}}}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "settings"
    return _PLAIN.get(annotation, "anything")


def _range(metadata: Sequence[Any]) -> str:
    """Return the bounds in the metadata of a field, in words."""
    parts = (f" {word} {getattr(m, n)}" for n, word in _BOUNDS for m in metadata if hasattr(m, n))
    return "".join(parts)


def _models_in(annotation: Any, mark: str = "") -> list[tuple[type[BaseModel], str]]:
    """Return the models of settings in an annotation, each with what stands for its place."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, mark)]
    marks = {tuple: "[]", dict: ".NAME"}
    mark += marks.get(get_origin(annotation), "")
    return [found for part in get_args(annotation) for found in _models_in(part, mark)]
