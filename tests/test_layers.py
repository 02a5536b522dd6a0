"""Imports go one way, without cycles, and the command line starts without anything heavy."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from tools.architecture import imported, modules

import sspl

ROOT = Path(sspl.__file__).resolve().parent

LAYERS = (
    {"errors", "weights"},
    {"distributed", "settings"},
    {"io"},
    {"device", "onnx"},
    {"optim"},
    {"domain"},
    {"data"},
    {"metrics"},
    {"models"},
    {"tasks"},
    {"faces"},
    {"training"},
    {"parsing"},
    {"evaluation"},
    {"inference"},
    {"study"},
    {"apps", "reporting"},
    {"demo", "learn"},
    {"cli"},
    {"__main__"},
)
"""A package imports what stands above it here, and nothing else."""

TOP = {"__init__", "__main__", "errors", "device"}
"""Modules that lie in no package of their own."""


MODULES = modules(ROOT)
GRAPH = {
    name: imported(ast.parse(path.read_text()).body, set(MODULES)) for name, path in MODULES.items()
}
"""What each module imports when it is itself imported."""


def layer(module: str) -> int:
    name = package(module)
    (place,) = (i for i, names in enumerate(LAYERS) if name in names)
    return place


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else "errors"


def allowed(module: str, target: str) -> bool:
    return package(module) == package(target) or layer(target) < layer(module)


def test_at_the_top_lie_few_modules() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} <= TOP


def test_the_whole_package_is_looked_at() -> None:
    assert "sspl.models.backbones.base" in GRAPH["sspl.tasks.prt"]
    assert GRAPH["sspl.tasks.prt"] >= {"sspl.tasks.base", "sspl.settings"}
    assert {layer(module) for module in MODULES} == set(range(len(LAYERS)))


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    wrong = [target for target in sorted(GRAPH[module]) if not allowed(module, target)]
    assert not wrong


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("sspl.domain.taxonomy", "sspl.data.images"),
        ("sspl.data.canvases", "sspl.models.backbones.resnet"),
        ("sspl.models.backbones.resnet", "sspl.training.stage_settings"),
        ("sspl.models.backbones.resnet", "sspl.tasks.prt"),
        ("sspl.models.backbones.resnet", "sspl.parsing.model"),
        ("sspl.training.finetune", "sspl.evaluation.evaluate"),
        ("sspl.evaluation.evaluate", "sspl.inference.predict"),
        ("sspl.inference.predict", "sspl.cli.main"),
        ("sspl.io.files", "sspl.domain.taxonomy"),
    ],
)
def test_imports_the_other_way_would_be_seen(module: str, target: str) -> None:
    assert not allowed(module, target)


def test_no_module_imports_itself_by_way_of_others() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_counts_as_an_import() -> None:
    code = (
        "import sspl.a\nfrom sspl import b\nfrom sspl.c import Thing\nimport os\n"
        "def later():\n    import sspl.d\n"
    )
    known = {"sspl", "sspl.a", "sspl.b", "sspl.c", "sspl.d"}
    tree = ast.parse(code)
    assert imported(ast.walk(tree), known) == known - {"sspl"}
    assert imported(tree.body, known) == {"sspl.a", "sspl.b", "sspl.c"}


@pytest.mark.parametrize("module", ["sspl", "sspl.cli.main"])
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys; print({{'torch', 'numpy', 'pydantic'}} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "module", [*sorted(m for m in MODULES if m.endswith("settings")), "sspl.data.skipping"]
)
def test_settings_are_known_without_torch(module: str) -> None:
    code = f"import {module}, sys; print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"


SAME_NAMES = {
    "app", "attributes", "base", "face", "faces", "features", "files", "masks", "pictures",
    "selection", "start", "write",
}  # fmt: skip
"""Names that modules of several packages may have: each says the same of its own package."""


def same_names(modules: Iterable[str]) -> set[str]:
    """Return the names that several modules have; those of `cli` are named as their commands."""
    names = Counter(m.rpartition(".")[2] for m in modules if package(m) != "cli")
    return {name for name, count in names.items() if count > 1}


def test_modules_have_names_of_their_own() -> None:
    files = [m for m, path in MODULES.items() if path.stem != "__init__"]
    assert same_names(files) <= SAME_NAMES
    assert same_names([*files, "sspl.training.taxonomy"]) - same_names(files) == {"taxonomy"}
