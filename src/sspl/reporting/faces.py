"""The real faces that a report may show when it is asked to."""

from pathlib import Path

from sspl.data.data_settings import DataSettings, parse_data_spec
from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.errors import SettingsError
from sspl.io.run_files import SETTINGS_FILE
from sspl.settings import read_settings
from sspl.study.runner import STUDY_FILE
from sspl.study.study_settings import open_spec


def faces_of_run(run: Path, spec: str | None) -> tuple[FaceSet, Box]:
    """Return the faces that a run used, or those of `spec`, and the part of each to show.

    The part is the run's own crop. Raises `SettingsError` when the run's data are not recorded.
    """
    data = read_settings(run / SETTINGS_FILE).get("data")
    recorded = data[0] if isinstance(data, list) and data else data
    if not recorded and spec is None:
        raise SettingsError(f"data: {run} does not say where its faces are; give --data.")
    own = DataSettings.model_validate(recorded) if recorded else None
    source = parse_data_spec(spec) if spec else own
    assert source is not None
    return source.open(), (own or source).box()


def faces_of_study(study: Path, spec: str | None) -> tuple[FaceSet, Box]:
    """Return the labelled faces of a study, or those of `spec`, and the part of each to show.

    Raises `SettingsError` when the study's settings are not there or do not say where they are.
    """
    if spec is not None:
        source = parse_data_spec(spec)
    else:
        if not (study / STUDY_FILE).is_file():
            raise SettingsError(f"data: {study} has no {STUDY_FILE}; give --data.")
        source = open_spec(str(read_settings(study / STUDY_FILE).get("data")))
    return source.open(), source.box()
