"""YAML files, read safely and strictly."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from sspl.errors import DataError, SsplError


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


def read_yaml(path: Path, error_type: type[SsplError] = DataError) -> Any:
    """Return the content of a YAML file; raise `error_type` naming it when it cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), _StrictLoader)
    except FileNotFoundError:
        raise error_type(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise error_type(f"{path}: cannot be read as text ({error}).") from None
    except RecursionError:
        raise error_type(f"{path}: not valid YAML (it is nested too deeply).") from None
    except yaml.YAMLError as error:
        raise error_type(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
