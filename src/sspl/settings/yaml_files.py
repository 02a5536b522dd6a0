"""YAML files, read safely and strictly."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

from sspl.errors import DataError, SsplError

_FAULTS: Final = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""PyYAML lets through what Python says of numbers, dates and tags that it cannot make."""


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key that comes twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for node_of_key, _ in node.value:
            key = self.construct_object(node_of_key, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused by the loader itself
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' comes twice", node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says; raise `ValueError` saying why when it is none."""
    try:
        return yaml.load(text, _StrictLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except _FAULTS as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def read_yaml(path: Path, error_type: type[SsplError] = DataError) -> Any:
    """Return the content of a YAML file; raise `error_type` naming it when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error_type(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise error_type(f"{path}: cannot be read as text ({error}).") from None
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise error_type(f"{path}: not valid YAML ({error}).") from None
