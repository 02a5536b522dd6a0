"""The public parts: what each package names as its own, and that nothing heavy comes early."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import sspl

FACES = tuple(
    import_module(name)
    for name in (
        "sspl",
        "sspl.domain",
        "sspl.data",
        "sspl.models",
        "sspl.metrics",
        "sspl.tasks",
        "sspl.optim",
        "sspl.training",
        "sspl.inference",
    )
)
ON_DEMAND = [face for face in FACES if hasattr(face, "__getattr__")]


def imported_names(face: ModuleType) -> set[str]:
    """Names that a package's file imports from the package's own modules, for checkers or truly."""
    tree = ast.parse(Path(str(face.__file__)).read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{face.__name__}.")
        for alias in node.names
    }


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_every_name_is_there_and_known_to_type_checkers(face: ModuleType) -> None:
    assert face.__all__
    for name in face.__all__:
        assert getattr(face, name) is not None
    assert set(face.__all__) - {"TASKS"} == imported_names(face)


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_no_name_is_that_of_a_module(face: ModuleType) -> None:
    """Once such a module is imported it would stand where the public part does."""
    folder = Path(str(face.__file__)).parent
    assert {path.stem for path in folder.iterdir()}.isdisjoint(face.__all__)


@pytest.mark.parametrize("face", ON_DEMAND, ids=lambda face: face.__name__)
def test_an_unknown_name_is_an_attribute_error(face: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{face.__name__}' has no attribute 'gone'"):
        face.gone  # noqa: B018


def test_on_demand_nothing_heavy_comes_with_a_package() -> None:
    names = ", ".join(face.__name__ for face in ON_DEMAND)
    heavy = "{'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    code = f"import {names}, sys; print({heavy}); import sspl.tasks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "True"]
    assert len(ON_DEMAND) == 6


def test_the_parts_of_one_package_come_from_their_own_modules() -> None:
    assert sspl.load.__module__ == "sspl.inference.api"
    parts = {
        part: getattr(import_module("sspl.data"), part) for part in ("Canvases", "render_face")
    }
    assert parts["Canvases"].__module__ == "sspl.data.canvases"
    assert parts["render_face"].__module__ == "sspl.data.synthetic.render"
