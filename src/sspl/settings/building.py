"""What settings are built of: layers laid over one another, checked, and refused by name."""

import copy
import reprlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sspl.errors import SettingsError
from sspl.settings.early_files import renamed_keys
from sspl.settings.keys import Key, keys_of
from sspl.settings.yaml_files import parse_yaml, read_yaml


class Settings(BaseModel):
    """Base of all settings: frozen, an unknown key is an error, and every number finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


REPLACING: Final = frozenset({"timm"})
"""Settings beside which those of a layer below have no meaning: a timm model has its own sizes."""

LATE: Final = "task"
"""The key below which settings are known only once torch is loaded."""

S = TypeVar("S", bound=Settings)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Of the arithmetic; `auto` is bf16 where that is fast, else fp16 on GPUs, else fp32."""

# A few kilobytes of YAML with references can stand for a value without end.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200


def read_settings(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, under the names of today where version 0.1 wrote it.

    Raises `SettingsError` when it is no mapping.
    """
    content = read_yaml(path, SettingsError)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected 'key: value' lines at the top level.")
    return renamed_keys(content)


def apply_override(content: dict[str, Any], override: str) -> None:
    """Set one `a.b.c=value` in a nested mapping; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"'{override}' is not a setting; write key=value, as in seed=3.")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise SettingsError(f"{key}: the value '{text}' is not valid YAML ({error}).") from None
    *parents, last = key.split(".")
    node = content
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise SettingsError(f"{key}: '{parent}' is a plain value and has no keys below it.")
        node = child
    node[last] = value


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `top` laid over it, mappings merged key by key.

    A mapping that names what brings all of it (`REPLACING`) takes the place of the one below.

    Examples:
        >>> merge({"backbone": {"width": 0.5, "depth": 18}}, {"backbone": {"width": 1}})
        {'backbone': {'width': 1, 'depth': 18}}
        >>> merge({"backbone": {"width": 0.5}}, {"backbone": {"timm": "resnet18"}})
        {'backbone': {'timm': 'resnet18'}}
    """
    merged = dict(base)
    for key, value in top.items():
        laid = isinstance(value, dict) and not REPLACING & value.keys()
        if laid and isinstance(merged.get(key), dict):
            value = merge(merged[key], value)
        merged[key] = value
    return merged


def build(model: type[S], content: Any, overrides: Sequence[str] = (), where: str = "") -> S:
    """Validate a mapping plus overrides; `where` is the path at which it stands in a larger one.

    Raises `SettingsError` naming each wrong field by its path, and what is allowed.
    """
    if isinstance(content, model):
        return content
    try:
        content = copy.deepcopy(content)
        for override in overrides:
            apply_override(content, override)
        _refuse_huge(content)
        return model.model_validate(content)
    except ValidationError as error:
        raise SettingsError(_explain(model, error, where)) from None
    except RecursionError:
        raise SettingsError("the settings are nested too deeply.") from None


def _refuse_huge(content: Any) -> None:
    """Raise `SettingsError` naming a whole number that 64 bits cannot hold."""
    waiting, seen = [("settings", content)], set[int]()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise SettingsError(f"{path}: the number is beyond 64 bits.")
        # References may make a few lines stand for a value without end.
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{path}.{k}".removeprefix("settings."), v) for k, v in parts]


def _explain(model: type[BaseModel], error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors():
        parts = (*where.split("."), *problem["loc"]) if where else problem["loc"]
        path = ".".join(str(part) for part in parts) or "settings"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown setting; {_meant(model, problem['loc'], where)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(
                f"{path}: {message[0].lower()}{message[1:]} (got {_SHORT.repr(problem['input'])})"
            )
    return "; ".join(lines).removesuffix("?") + ("?" if lines[-1].endswith("?") else ".")


def _meant(model: type[BaseModel], path: Sequence[int | str], where: str) -> str:
    """Return which settings an unknown one may be meant for, or which there are at its place."""
    *parents, last = (str(part) for part in path)
    beside = _fields_at(model, path[:-1])
    near = [".".join((*parents, name)) for name in get_close_matches(last, beside, 2)]
    near = near or _named_so(last, keys_of(model, without=LATE)) or _named_so(last, keys_of(model))
    if not near:
        return f"allowed are {', '.join(beside)}"
    return f"did you mean {' or '.join(f'{where}.{name}' if where else name for name in near[:4])}?"


def _named_so(last: str, keys: Sequence[Key]) -> list[str]:
    """Return the keys that end in a name, or in one much like it."""
    ends = {key.name: key.name.rpartition(".")[2] for key in keys}
    wanted = [last] if last in ends.values() else get_close_matches(last, ends.values(), 2, 0.8)
    return [name for name, end in ends.items() if end in wanted]


def _fields_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Return the field names of the model that stands at `path`, its own when unclear."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        nested = _model_in(field.annotation) if field else None
        if nested is None:
            break
        model = nested
    return sorted(model.model_fields)


def fields_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of the settings below one key; None for a plain value and for names."""
    return _model_in(model.model_fields[key].annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is dict:
        return None
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def dump_yaml(settings: Settings) -> str:
    """Return the resolved settings as YAML that `read_settings` and `build` read back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
