"""What an index shows of the project, and that the container is made of what is pinned."""

import email
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from shared import import_file
from sspl.cli.serve import serve

ROOT: Final = Path(__file__).resolve().parents[1]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LONG: Final = import_file(ROOT / "setup.py").long_description


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", DOCKERFILE, re.M)


def test_the_long_description_holds_nothing_of_the_repository_alone() -> None:
    text = LONG((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "![" not in text
    assert [place for place in re.findall(r"\]\(([^)]+)\)", text) if ":" not in place] == []
    assert "More (`docs/install.md`)" in text
    assert text.count("```") == (ROOT / "README.md").read_text().count("```")


def test_pictures_go_and_links_name_their_files() -> None:
    text = "# A\n\n![Curves](docs/a.png)\n\nSee [B](docs/b.md#c), [D](https://d.org) and [e](e).\n"
    assert LONG(text) == "# A\n\nSee B (`docs/b.md`), [D](https://d.org) and e.\n"


def test_the_metadata_is_what_an_index_asks_for(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "src" / "sspl").mkdir(parents=True)
    code = "from setuptools import build_meta as b; print(b.prepare_metadata_for_build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    folder = tmp_path / done.stdout.split()[-1]
    found = email.message_from_string((folder / "METADATA").read_text(encoding="utf-8"))
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload().startswith("# sspl\n")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert [found["Author"]] == [author["name"] for author in citation["authors"]]
    (url,) = found.get_all("Project-URL")
    assert url.endswith(f", https://doi.org/{citation['references'][0]['doi']}")


def test_nobody_is_told_to_install_what_is_not_ours() -> None:
    """The name on package indexes is somebody else's."""
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    asked = re.compile(r"(?:pip|uv|pipx|uvx) (?:install|add|run) (?:-\S+ )*['\"]?sspl\b")
    for name in filter(None, files):
        if name.endswith((".md", ".py", ".html", ".yaml", ".toml", ".ipynb", "Dockerfile")):
            text = (ROOT / name).read_text(encoding="utf-8")
            found = [m[0] for m in asked.finditer(text) if text[: m.start()][-7:] != "never `"]
            assert found == [], name


def test_the_container_installs_what_is_pinned_and_compares_the_hashes() -> None:
    installs = [run for run in instructions("RUN") if "pip install" in run]
    assert len(installs) == 3
    reports = [re.search(r"--report (\w+)\.json -c constraints\.txt", run)[1] for run in installs]  # type: ignore[index]
    (check,) = (run for run in instructions("RUN") if "hashes.py --check" in run)
    assert re.search(r"in ([\w ]+);", check)[1].split() == reports  # type: ignore[index]
    (extras,) = re.findall(r"'\.\[(.+)\]'", installs[-1])
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    assert "cuda" not in DOCKERFILE.lower()
    oldest = tuple(map(int, re.search(r"(\d+)\.(\d+)", PROJECT["requires-python"]).groups()))  # type: ignore[union-attr]
    for image in instructions("FROM"):
        assert tuple(map(int, re.search(r"python:(\d+)\.(\d+)-", image).groups())) >= oldest  # type: ignore[union-attr]


def test_the_container_copies_what_is_there_and_the_context_holds_it() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    kept = {path.name for line in ignored[1:] for path in ROOT.glob(line.removeprefix("!"))}
    for words in (line.split() for line in instructions("COPY") if "--from" not in line):
        for name in words[:-1]:
            assert (ROOT / name).exists()
            assert Path(name).name in kept
    needed = {"pyproject.toml", "setup.py", "README.md", *PROJECT["license-files"]}
    assert needed <= {name for line in instructions("COPY") for name in line.split()}


def test_the_container_runs_without_rights_and_says_whether_it_serves() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.findall(r"^USER (.+)$", last, re.M) == ["sspl"]
    assert last.index("USER sspl") < last.index("ENTRYPOINT")
    assert "useradd" in last
    assert instructions("ENTRYPOINT") == ['["sspl"]']
    port = next(option.default for option in serve.params if option.name == "port")
    assert instructions("EXPOSE") == [str(port)]
    (health,) = instructions("HEALTHCHECK")
    assert f"'127.0.0.1', {port}" in health
    assert "'/healthz'" in health
