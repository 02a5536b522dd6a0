"""Fixtures that several test files share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from sspl.models.bundle import AttributeModel

# Workers share the machine with what else runs there, so no property may fail by the clock.
settings.register_profile("sspl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sspl")

DEFAULT_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real faces; tests that ask for it are skipped where it is absent."""
    named = os.environ.get("SSPL_DATA")
    folder = Path(named) if named else DEFAULT_DATA
    if not (folder / "celeba10k").is_dir():
        pytest.skip(f"no real faces in {folder}; set SSPL_DATA to the folder that has them")
    return folder.resolve()


@pytest.fixture(scope="module")
def model() -> "AttributeModel":
    """A random model that tells faces apart; a test file may have a `model` of its own."""
    from shared import make_model

    return make_model("sspl", flip_average=True)


@pytest.fixture(scope="module")
def run(model: "AttributeModel", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a fine-tuning run that gave `model`."""
    from sspl.models.bundle import save_model

    folder = tmp_path_factory.mktemp("fine")
    save_model(folder, model)
    return folder
