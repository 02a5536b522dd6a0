"""Thresholds and "not sure" bands for a model whose training is over."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sspl.data.data_settings import DataSettings
from sspl.data.records import FaceSet
from sspl.data.subsets import load_subset
from sspl.errors import SettingsError
from sspl.evaluation.decided import decided_lines, decided_summary, own_decisions
from sspl.evaluation.evaluate import Evaluation, judge, labelled_probabilities, write_evaluation
from sspl.evaluation.predictions import Predictions, load_predictions, predictions_file
from sspl.io.files import read_json, write_json
from sspl.io.run_files import SETTINGS_FILE
from sspl.models.bundle import AttributeModel, load_model, save_decisions
from sspl.settings import read_settings
from sspl.training.deciding import ThresholdRule, choose_decisions, never_sure
from sspl.training.run_inputs import LABELLED_FILE, VALIDATION_FILE
from sspl.training.stage_settings import RuntimeSettings, data_of

DECISIONS_FILE: Final = "decisions.json"


@dataclass(frozen=True)
class Decided:
    """What was chosen on which faces.

    Args:
        summary: rule and number of faces, and for each attribute what the choice is worth on them;
            JSON-able.
        evaluations: the splits whose evaluation in the folder now tells of the new decisions.
        kept: whether the decisions stay as they were, since those chosen would answer nothing.
    """

    summary: dict[str, Any]
    evaluations: tuple[str, ...]
    kept: bool = False

    def text(self) -> str:
        """Return a plain table and what to think of it."""
        faces, own = self.summary["faces"], self.summary["validation"]
        what = "the validation faces" if own else "the faces"
        if self.kept:
            return (
                f"--sure-accuracy {self.summary['sure_accuracy']:g}: no attribute has answers that "
                f"are right so often on {what}, {faces:,}, so every answer would be 'not sure'. "
                "The model's decisions stay as they were; ask for less, or label more faces."
            )
        lines = [
            *decided_lines(self.summary["attributes"]),
            "",
            f"These figures are of {what} that it was chosen on, {faces:,}, and flatter it;",
            "'sspl evaluate' says what it is worth on others.",
        ]
        if self.evaluations:
            lines.append(f"Told anew from its predictions: {', '.join(self.evaluations)}.")
        return "\n".join(lines)


def validation_faces(run: Path) -> FaceSet:
    """Return the faces that a run was selected on; raise `SettingsError` where it names none."""
    settings, named = run / SETTINGS_FILE, run / VALIDATION_FILE
    if not (settings.is_file() and named.is_file() and named.stat().st_size):
        raise SettingsError(
            f"{run}: does not say which faces it was selected on; give labelled faces that it did "
            "not learn from with --data."
        )
    data = data_of(run)
    if data is None:
        raise SettingsError(f"{settings}: names no data; give labelled faces with --data.")
    faces = data.open()
    return faces.select(load_subset(named, faces))


def other_faces(run: Path, data: DataSettings, split: str) -> FaceSet:
    """Return labelled faces of another set; raise `SettingsError` for those a run learnt from.

    Those of its test split are refused too: a test on them would say nothing any more.
    """
    if split == "test":
        raise SettingsError("--split: what is chosen on test faces cannot be tested on them.")
    faces = data.open()
    faces = faces if split == "all" else faces.split(split)
    if (run / SETTINGS_FILE).is_file() and (run / LABELLED_FILE).is_file():
        learnt = data_of(run)
        if learnt is not None and learnt.absolute().root == data.absolute().root:
            whole = data.open()
            names = {whole.names[i] for i in load_subset(run / LABELLED_FILE, whole)}
            if not names.isdisjoint(faces.names):
                raise SettingsError("--data: the model learnt from some of these faces.")
    return faces


def decide(
    run: Path,
    faces: FaceSet,
    own: bool,
    rule: ThresholdRule | None,
    accuracy: float | None,
    given: Mapping[str, float],
    runtime: RuntimeSettings,
) -> Decided:
    """Choose thresholds and bands, write them into the model, and into what was said of it.

    Where every answer would then be "not sure", nothing is written.

    Args:
        run: run folder or model folder.
        faces: labelled faces that the model did not learn from.
        own: whether these are the run's validation faces.
        rule: as in `choose_decisions`; None keeps the model's thresholds.
        accuracy, given: as in `choose_decisions`.
        runtime: where the network runs.

    Evaluations in the folder are told anew from their predictions, without looking at a face.
    """
    model = load_model(run)
    for name in given:
        model.schema.index(name)
    labels, probabilities = labelled_probabilities(model, faces, runtime)
    names = model.schema.names
    own_thresholds = dict(zip(names, model.decisions.threshold_array(names).tolist(), strict=True))
    fixed = {**({} if rule else own_thresholds), **given}
    decisions = choose_decisions(names, probabilities, labels, rule or "half", accuracy, fixed)
    kept = accuracy is not None and never_sure(decisions, names)
    found = Predictions(faces.names, names, labels, probabilities.astype(np.float32))
    summary = {
        "rule": rule or _rule_before(run),
        "sure_accuracy": accuracy,
        "given": ({} if rule else _given_before(run)) | dict(given),
        "faces": len(faces),
        "validation": own,
        "attributes": decided_summary(found, decisions),
    }
    if kept:
        return Decided(summary | {"kept": True}, (), kept=True)
    save_decisions(run, model, decisions)
    write_json(run / DECISIONS_FILE, summary)
    return Decided(summary, _tell_anew(run, replace(model, decisions=decisions)))


def _rule_before(run: Path) -> str:
    """Return the rule by which a model's thresholds were chosen last."""
    if (run / DECISIONS_FILE).is_file():
        return str(read_json(run / DECISIONS_FILE)["rule"])
    settings = run / SETTINGS_FILE
    content = read_settings(settings) if settings.is_file() else {}
    return str(content.get("thresholds", "half"))


def _given_before(run: Path) -> dict[str, float]:
    file = run / DECISIONS_FILE
    return dict(read_json(file)["given"]) if file.is_file() else {}


def _tell_anew(run: Path, model: AttributeModel) -> tuple[str, ...]:
    splits = []
    for file in sorted(run.glob("evaluation-*.json")):
        split = file.stem.removeprefix("evaluation-")
        if not predictions_file(run, split).is_file():
            continue
        predictions, summary = load_predictions(predictions_file(run, split)), read_json(file)
        summary.pop("decisions", None)
        summary |= own_decisions(predictions, model.decisions)
        figures = judge(predictions, model.training_rates)
        write_evaluation(run, split, Evaluation(predictions, figures, summary))
        splits.append(split)
    return tuple(splits)
