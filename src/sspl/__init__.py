"""Spatial-Semantic Patch Learning: facial attribute recognition from few labels.

Importing the package imports nothing heavy; torch is loaded by the modules that need it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"


def public(package: str, **homes: str) -> tuple[Callable[[str], Any], list[str]]:
    """Return `__getattr__` and `__all__` of a package that imports its public parts on demand.

    `homes` gives the names of each of its modules, with spaces between them.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def on_demand(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return on_demand, sorted(home)


if TYPE_CHECKING:
    from sspl.inference.api import load as load
else:
    __getattr__, __all__ = public(__name__, inference="load")
