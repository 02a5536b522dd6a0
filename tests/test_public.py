"""The public parts: what each package names as its own, and that nothing heavy comes early."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import sspl
from sspl.data import write_synthetic
from sspl.domain import AttributeSchema
from sspl.models import AttributeModel, AttributeNetwork, BackboneSettings, HeadSettings, save_model

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
REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"
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
    assert set(face.__all__) == imported_names(face)


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
    code = f"import {names}, sys; print({heavy}); sspl.tasks.TASKS; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "True"]
    assert len(ON_DEMAND) == len(FACES)


def test_the_parts_of_one_package_come_from_their_own_modules() -> None:
    assert sspl.load.__module__ == "sspl.inference.api"
    parts = {
        part: getattr(import_module("sspl.data"), part) for part in ("Canvases", "render_face")
    }
    assert parts["Canvases"].__module__ == "sspl.data.canvases"
    assert parts["render_face"].__module__ == "sspl.data.synthetic.render"


@pytest.mark.parametrize("face", FACES[1:], ids=lambda face: face.__name__)
def test_the_reference_has_each_once(face: ModuleType) -> None:
    page = REFERENCE / f"{face.__name__.removeprefix('sspl.')}.md"
    listed = re.findall(r"^::: (.+)$", page.read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(f"{face.__name__}.{name}" for name in face.__all__)


PARTS = {name: getattr(face, name) for face in FACES for name in face.__all__ if face is not sspl}
EXPLAINED = [name for name, part in PARTS.items() if inspect.isclass(part) or callable(part)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ten drawn faces and a model of one attribute, as the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    write_synthetic(folder / "faces", count=10, seed=0, size=48)
    network = AttributeNetwork(BackboneSettings(width=0.125), HeadSettings(), attributes=1)
    schema, one = AttributeSchema(("Smiling",), ("lower",)), np.ones(1)
    save_model(folder, AttributeModel(network, schema, (0, 0, 1, 1), 40, 32, False, one, one))
    return folder


@pytest.mark.parametrize("name", EXPLAINED)
def test_its_example_runs(name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples know all public names, numpy, torch and `Path`, as the reference says."""
    monkeypatch.chdir(workplace)
    known = PARTS | {"np": np, "torch": torch, "Path": Path, "model": workplace}
    text = inspect.cleandoc(PARTS[name].__doc__)
    example = doctest.DocTestParser().get_doctest(text, known, name, None, None)
    assert 1 <= len(example.examples) <= 5
    assert any(e.want for e in example.examples)
    said: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not outcome.failed, "".join(said)
