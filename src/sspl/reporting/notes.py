"""What is known from elsewhere: label noise, and published figures."""

from importlib import resources
from typing import Any

import yaml


def notes(name: str) -> dict[str, Any]:
    """Return the content of `NAME.yaml` in this package."""
    file = resources.files("sspl.reporting") / f"{name}.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def label_noise(attributes: tuple[str, ...]) -> dict[str, str]:
    """Return what is known of the labels of some of these attributes, named as in CelebA."""
    known: dict[str, str] = notes("label_noise")["attributes"]
    return {name: known[name] for name in attributes if name in known}
