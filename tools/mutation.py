"""Change the method's core files one place at a time; see whether their tests notice.

    python -m tools.mutation                        # all, or: make mutation
    python -m tools.mutation --again                # what survived, and files that have changed
    python -m tools.mutation --only schedules.py

`tools.changes` says what is changed. Of each file's tests those are run that enter the function
with the change, the quickest first, up to the first that fails. A change that none notices is a
survivor: a gap in the tests, or a change that makes no difference. The latter are listed, with the
reason, in tests/robustness/equivalent.yaml. The score goes to tests/robustness/mutation.txt; the
exit status is 1 when a survivor is not in the list, or something in the list is noticed.

Processes are forked from one that has imported everything but the changed module and what imports
it, which is why this is no job for the usual tools: they start Python anew for every change.
"""

import ast
import gc
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, Final

import click
import hypothesis
import pytest
import torch
import yaml
from tools.changes import Change, changed, changes
from tqdm import tqdm

ROOT: Final = Path(__file__).resolve().parents[1]
RECORD: Final = ROOT / "tests" / "robustness" / "mutation.txt"
EQUIVALENT: Final = ROOT / "tests" / "robustness" / "equivalent.yaml"
TESTS: Final = {
    "tasks/pct.py": (
        "tasks/test_pct.py",
        "tasks/test_all_tasks.py",
        "data/test_mask_shares.py",
        "training/test_method_settings.py",
    ),
    "tasks/pst.py": (
        "tasks/test_pst.py",
        "tasks/test_all_tasks.py",
        "data/test_mask_shares.py",
        "models/test_criss_cross.py",
        "training/test_method_settings.py",
    ),
    "tasks/prt.py": (
        "tasks/test_prt.py",
        "tasks/test_all_tasks.py",
        "training/test_method_settings.py",
    ),
    "tasks/base.py": ("tasks/test_task_base.py", "tasks/test_all_tasks.py"),
    "models/criss_cross.py": ("models/test_criss_cross.py",),
    "training/adversarial.py": ("models/test_splnet.py", "training/test_method_settings.py"),
    "training/distillation.py": ("training/test_distillation.py",),
    "training/losses.py": (
        "training/test_losses.py",
        "training/test_method_settings.py",
        "training/test_distillation.py",
    ),
    "training/partition.py": ("training/test_partition.py",),
    "data/pairing.py": ("data/test_pairing.py", "parsing/test_pairs.py"),
    "data/subsets.py": ("data/test_subsets.py",),
    "data/transforms.py": ("data/test_transforms.py", "training/test_method_settings.py"),
    "domain/taxonomy.py": ("domain/test_taxonomy.py", "domain/test_sides.py"),
    "domain/attributes.py": (
        "domain/test_taxonomy.py",
        "test_values.py::test_attributes_are_columns_of_their_own",
    ),
    "metrics/pixels.py": ("metrics/test_metrics.py",),
    "metrics/attributes.py": (
        "metrics/test_metrics.py",
        "training/test_calibration.py",
        "evaluation/test_statistics.py::test_reliability_by_hand",
    ),
    "metrics/rankings.py": ("metrics/test_metrics.py", "evaluation/test_statistics.py"),
    "io/checkpoints.py": ("robustness/test_checkpoints.py",),
    "io/weights.py": ("io/test_weights.py", "robustness/test_checkpoints.py"),
    "models/branches.py": ("models/test_splnet.py",),
    "parsing/pairs.py": ("parsing/test_pairs.py",),
    "optim/optimiser.py": ("optim/test_optimiser.py", "optim/test_guard.py"),
    "optim/schedules.py": ("optim/test_schedules.py",),
}
SLOW: Final = "end_to_end or pretraining"
"""Tests that cost more than they could tell of these files."""

QUICK: Final = (
    "-x",
    "-q",
    "--tb=native",
    "--assert=plain",
    "-k",
    f"not ({SLOW})",
    *(f"-pno:{plugin}" for plugin in ("cacheprovider", "logging", "warnings", "faulthandler")),
)
"""What is not needed to tell whether a test fails takes longer than most tests."""

LEAST_LIMIT: Final = 3.0
"""Seconds of CPU that any test may take."""


class Watch:
    """Plugin that notes which functions of a file each test enters, and how long it takes."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.entered: defaultdict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    def _watched(self, key: str) -> Any:
        def trace(frame: FrameType, _: str, __: Any) -> None:
            if frame.f_code.co_filename == self.path:
                self.entered[key].add(frame.f_code.co_qualname)

        return trace

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # There is no `caplog` without the plugin for logging.
        items[:] = [item for item in items if "caplog" not in getattr(item, "fixturenames", ())]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        # What a fixture enters serves all tests of the file.
        sys.settrace(self._watched(item.nodeid.split("::")[0]))
        try:
            return (yield)
        finally:
            sys.settrace(None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        start = time.process_time()
        sys.settrace(self._watched(item.nodeid))
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = time.process_time() - start

    def tests_of(self, change: Change) -> dict[str, float]:
        """Return the tests that could notice a change, with their seconds."""
        return {
            test: seconds
            for test, seconds in self.seconds.items()
            if change.function is None
            or change.function in self.entered[test] | self.entered[test.split("::")[0]]
        }


class Chosen:
    """Plugin that runs some tests alone, the quickest first; one that hangs ends the process."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self.seconds]
        items[:] = sorted(chosen, key=lambda item: self.seconds[item.nodeid])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        signal.setitimer(signal.ITIMER_PROF, LEAST_LIMIT + 5 * self.seconds[item.nodeid])


class Loader(importlib.machinery.SourceFileLoader):
    """Load a module from code that is there already."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self.code = code

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class Finder:
    """Let one module be loaded from changed code."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self.name, self.path, self.code = name, path, code

    def find_spec(self, name: str, _: Any, __: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        loader = Loader(name, str(self.path), self.code)
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def digest_of(source: str) -> str:
    """Return what tells a source from another."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def source_of(file: str) -> Path:
    """Return the path of a file of the package."""
    return ROOT / "src" / "sspl" / file


def module_of(file: str) -> str:
    """Return the name that a file of the package is imported by."""
    return "sspl." + file.removesuffix(".py").replace("/", ".")


def _imports(module: ModuleType) -> set[str]:
    """Return the names that the code of a module imports anywhere; packages among them."""
    found = set()
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forget(name: str) -> None:
    """Drop a module, the tests and all modules of ours that import it, however indirectly."""
    ours = {n: m for n, m in sys.modules.items() if getattr(m, "__file__", None)}
    tests = {n for n, m in ours.items() if Path(str(m.__file__)).is_relative_to(ROOT / "tests")}
    imports = {n: _imports(m) for n, m in ours.items() if n.split(".")[0] == "sspl"}
    dropped, more = {name}, {name}
    while more:
        more = {n for n, names in imports.items() if names & dropped} - dropped
        dropped |= more
    for module in dropped | tests:
        sys.modules.pop(module, None)
        package, _, own = module.rpartition(".")
        if hasattr(sys.modules.get(package), own):
            delattr(sys.modules[package], own)


class Subject:
    """A file to be changed, its tests run once as it is."""

    def __init__(self, file: str) -> None:
        self.file, self.path = file, source_of(file)
        self.source = self.path.read_text(encoding="utf-8")
        self.changes = changes(self.source)
        self.tests = [str(ROOT / "tests" / test) for test in TESTS[file]]
        self.watch = Watch(self.path)
        if pytest.main([*QUICK, *self.tests], plugins=[self.watch]):
            raise SystemExit(f"the tests of {file} fail as it is")
        forget(module_of(file))
        gc.collect()
        gc.freeze()

    def notices(self, number: int | None) -> bool:
        """Tell whether the tests fail with the change of this number made; None makes none."""
        tests = self.watch.seconds
        if number is not None:
            tests = self.watch.tests_of(self.changes[number])
        if not tests:
            return False
        code = compile(changed(self.source, number), str(self.path), "exec")
        child = os.fork()
        if not child:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            signal.setitimer(signal.ITIMER_PROF, LEAST_LIMIT)
            sys.meta_path.insert(0, Finder(module_of(self.file), self.path, code))  # type: ignore[arg-type]
            random.seed(0)
            torch.manual_seed(0)
            os._exit(pytest.main([*QUICK, *self.tests], plugins=[Chosen(tests)]))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0

    def survivors(self, among: set[str] | None) -> list[Change]:
        """Return the changes that no test notices; only some are tried where their texts are given.

        The rest is taken to be noticed.
        """
        tried = [i for i, c in enumerate(self.changes) if among is None or c.text in among]
        bar = tqdm(tried, self.file, leave=False)
        return [self.changes[number] for number in bar if not self.notices(number)]

    def digest(self) -> str:
        """Return what tells this source from another."""
        return digest_of(self.source)


def read_equivalent() -> dict[str, dict[str, str]]:
    """Return of each file the changes that make no difference, with the reason."""
    listed = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}
    return {f: {row["change"]: row["because"] for row in rows} for f, rows in listed.items()}


def read_record() -> dict[str, dict[str, Any]]:
    """Return what the record says of each file."""
    if not RECORD.exists():
        return {}
    lines = RECORD.read_text(encoding="utf-8").splitlines()
    return {r["file"]: r for r in map(json.loads, (line for line in lines if line[:1] == "{"))}


def write_record(found: dict[str, dict[str, Any]]) -> None:
    """Write a line for each file, and the sum."""
    noticed, equivalent = (sum(f[k] for f in found.values()) for k in ("noticed", "equivalent"))
    survivors = sum(len(f["survivors"]) for f in found.values())
    head = [
        "Made by tools/mutation.py: of each file how many changes its tests notice, how many make",
        "no difference (equivalent.yaml says why), and those that survive.",
        "",
        f"Of {noticed + equivalent + survivors} changes {noticed} are noticed, {equivalent} make "
        f"no difference, {survivors} survive.",
        "",
    ]
    rows = [json.dumps(found[file], ensure_ascii=False) for file in sorted(found)]
    RECORD.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")


@click.command()
@click.option("--only", type=click.Choice(list(TESTS)), multiple=True, help="Files to change.")
@click.option("--again", is_flag=True, help="Of unchanged files try only what survived.")
def main(only: tuple[str, ...], again: bool) -> None:
    """Count the changes of the core files that their tests notice."""
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    torch.set_num_threads(1)
    # A failing example is enough; it need not be the simplest.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("quick", derandomize=True, database=None, phases=phases)
    hypothesis.settings.load_profile("quick")
    unexplained = False
    for file in only or TESTS:
        subject = Subject(file)
        if subject.notices(None):
            raise SystemExit(f"the tests of {file} fail when run again")
        reasons = read_equivalent().get(file, {})
        row = read_record().get(file, {})
        known = again and row.get("source") == subject.digest()
        survivors = subject.survivors({*row["survivors"], *reasons} if known else None)
        left = [s for s in survivors if s.text not in reasons]
        for text in reasons.keys() - {s.text for s in survivors}:
            click.echo(f"{file}: noticed, or no longer there; take it out of the list: {text}")
            unexplained = True
        equivalent = len(survivors) - len(left)
        noticed = len(subject.changes) - len(survivors)
        # Read again: another run may have written its files meanwhile.
        found = read_record()
        found[file] = {
            "file": file,
            "source": subject.digest(),
            "noticed": noticed,
            "equivalent": equivalent,
            "survivors": [s.text for s in left],
        }
        write_record(found)
        click.echo(f"{file}: {noticed} noticed, {equivalent} without difference, {len(left)} left")
        unexplained = unexplained or bool(left)
    raise SystemExit(int(unexplained))


if __name__ == "__main__":
    main()
