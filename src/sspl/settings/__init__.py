"""Settings: pydantic models read from YAML plus `key=value` overrides."""

from sspl.settings.building import (
    LATE,
    Precision,
    S,
    Settings,
    apply_override,
    build,
    dump_yaml,
    fields_of,
    merge,
    read_settings,
)

__all__ = [
    "LATE",
    "Precision",
    "S",
    "Settings",
    "apply_override",
    "build",
    "dump_yaml",
    "fields_of",
    "merge",
    "read_settings",
]
