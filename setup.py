"""The long description: README.md as a package index can show it, away from its repository."""

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).with_name("README.md")
AWAY = r"(?![a-z]+:|#)"
"""A link or picture is the repository's own where it begins with no scheme and no anchor."""


def long_description(readme: str) -> str:
    """Return the text without the repository's pictures; its links become names of files."""
    shown = re.sub(rf"!\[[^\]]*\]\({AWAY}[^)]*\)\n*", "", readme)
    return re.sub(rf"\[([^\]]*)\]\({AWAY}([^)#]*)[^)]*\)", _named, shown)


def _named(link: re.Match[str]) -> str:
    text, file = link.groups()
    return text if text == file else f"{text} (`{file}`)"


if __name__ == "__main__":
    setup(
        long_description=long_description(README.read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
    )
