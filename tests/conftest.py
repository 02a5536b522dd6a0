"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

DEFAULT_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real faces; tests that ask for it are skipped where it is absent."""
    named = os.environ.get("SSPL_DATA")
    folder = Path(named) if named else DEFAULT_DATA
    if not (folder / "celeba10k").is_dir():
        pytest.skip(f"no real faces in {folder}; set SSPL_DATA to the folder that has them")
    return folder.resolve()
