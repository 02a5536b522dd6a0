"""Spatial-Semantic Patch Learning: facial attribute recognition from few labels.

Importing the package imports nothing heavy; torch is loaded by the modules that need it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sspl.inference.api import load as load

__version__ = "0.1.0"


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import `load` when it is first asked for."""
        if name != "load":
            raise AttributeError(f"module 'sspl' has no attribute '{name}'")
        from sspl.inference.api import load

        return load
