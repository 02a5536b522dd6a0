"""Weights of stage 1 that come with the package, learnt from drawn faces alone.

No photograph, and nothing made from one, had a part in them. The card beside the file says how
they were made and what they are worth.
"""

from pathlib import Path
from typing import Final

BUILT_IN: Final = "builtin"
"""What they are called wherever a run or a file of weights is asked for."""

BUILT_IN_FILE: Final = Path(__file__).with_name("drawn.safetensors")


def resolved(path: Path) -> Path:
    """Return the file of the built-in weights for their name, any other path as it is.

    A file or folder of the same name is meant by `./builtin`, made absolute.

    Examples:
        >>> resolved(Path("builtin")).name
        'drawn.safetensors'
        >>> resolved(Path("/runs/builtin")).name
        'builtin'
    """
    return BUILT_IN_FILE if str(path) == BUILT_IN else path


def absolute(text: str) -> str:
    """Return a path made absolute, the name of the built-in weights as it is."""
    return text if text == BUILT_IN else str(Path(text).absolute())
