"""The steps of `sspl learn`: each calls what the command calls that it is named after."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sspl.data.adapters.folder import read_folder
from sspl.data.data_settings import DataSettings
from sspl.data.inputs import require_same_inputs
from sspl.device import pick_device
from sspl.errors import SettingsError
from sspl.evaluation.evaluate import Evaluation, evaluate, table, write_evaluation
from sspl.faces.face import FaceDetector
from sspl.faces.photographs import DetectSettings, detect_folder
from sspl.inference.pack import pack_model
from sspl.io.files import write_text
from sspl.io.locks import claimed
from sspl.io.progress import counted, spoken
from sspl.io.resuming import require_same_settings
from sspl.io.run_files import SETTINGS_FILE, finished
from sspl.io.user_code import file_of
from sspl.learn.labels import largest_faces, read_labels, write_labels, write_unlabelled
from sspl.learn.learn_settings import LearnSettings
from sspl.learn.plan import (
    CROP,
    START,
    TAUGHT,
    Step,
    learn_command,
    plan,
    plan_text,
    stage_1_epochs,
    taught_settings,
)
from sspl.models.model_metadata import CONFIG_FILE
from sspl.parsing.commands import open_parser
from sspl.parsing.masks import make_masks
from sspl.reporting.run_report import run_report
from sspl.settings import build, dump_yaml, merge
from sspl.training.feature_settings import parse_features
from sspl.training.finetune import finetune
from sspl.training.inheriting import finetune_settings
from sspl.training.partition import partition
from sspl.training.pretrain import pretrain
from sspl.training.ready_heads import add_drawn_heads, ready_heads_of
from sspl.training.run_inputs import finetune_inputs
from sspl.training.stage_settings import PretrainSettings, RuntimeSettings, preset

LEARN_FILE: Final = "learn.yaml"
STEPS_FILE: Final = "steps.txt"
MASKS_AT_ONCE: Final = 16
USES: Final = {
    "train": "to learn from",
    "val": "to choose the epoch by",
    "test": "held out for the test",
}
"""What the faces of a split are for."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """What came of it: the judgement on the held-out faces, how many faces each split had, time."""

    out: Path
    splits: dict[str, int]
    evaluation: Evaluation
    seconds: float

    def text(self) -> str:
        """Return what each attribute is worth, where things lie, and what to do next."""
        bounds = self.evaluation.summary["intervals"]["attributes"]
        lines = [f"On {counted(self.splits.get('test', 0), 'face')} held out for the test:"]
        for found in self.evaluation.figures:
            low, high = bounds[found.name]["accuracy"] or (None, None)
            line = f"  {found.name}: {_percent(found.accuracy)} right"
            line += "" if low is None else f" ({_percent(low)} to {_percent(high)})"
            usual = _percent(found.majority_accuracy)
            lines.append(f"{line}, always the commoner answer {usual}")
        model = self.out / "model"
        return "\n".join(
            [
                *lines,
                f"Took {spoken(self.seconds)}.",
                f"Report: {self.out / 'report.html'}; model: {model}; the steps as commands: "
                f"{self.out / STEPS_FILE}",
                f"Next: sspl predict {model} NEW_PHOTOGRAPHS --detect --out predictions.csv",
            ]
        )

    def result(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        places = {name: str(self.out / name) for name in ("model", "report.html", STEPS_FILE)}
        return {"splits": self.splits, "places": places} | self.evaluation.summary


def learn(
    settings: LearnSettings,
    out: Path,
    detector: FaceDetector | None = None,
    overrides: tuple[str, ...] = (),
) -> Learned:
    """Run all steps into the folder `out`; what an interrupted call has done is not done again.

    Args:
        settings: what is asked for.
        out: folder; the settings of every step are written into it.
        detector: finds faces in place of the usual one.
        overrides: settings of stage 2 as key=value.

    Raises `SsplError` as the commands do, and where the folder holds another task's work.
    """
    begun = time.monotonic()
    _require_usable(settings, overrides)
    with claimed(out, folder=True):
        _note(settings, out)
        crops, fine = out / "faces", out / "fine"
        looked = DetectSettings(largest=True)
        log.info("find the faces")
        log.info(detect_folder(settings.photographs, crops, looked, "skip", detector).text(crops))
        splits = _label(settings, out, crops, overrides)
        total = len(read_folder(crops))
        steps = plan(settings, out, total, sum(splits.values()), overrides)
        write_text(out / STEPS_FILE, "".join(f"{step.command}\n" for step in steps))
        log.info(plan_text(steps, done=1 if settings.labels else 2))
        start = _stage_1(settings, out, crops, total, steps)
        data = DataSettings(format="csv", root=out / "labels.csv", images=crops, crop=CROP)
        given = {
            "pretrained": start,
            "seed": settings.seed,
            "data": data.absolute().model_dump(exclude_unset=True),
        }
        _stage_2(settings, out, given, overrides, steps, total)
        _say(steps, "judge")
        found = evaluate(fine, data.open().split("test"), RuntimeSettings())
        write_evaluation(fine, "test", found)
        log.info(table(found))
        _say(steps, "write the report")
        write_text(out / "report.html", run_report(fine))
        _say(steps, "pack")
        if not (out / "model" / CONFIG_FILE).is_file():
            pack_model(fine, out / "model", name=out.absolute().name)
    return Learned(out, splits, found, time.monotonic() - begun)


def _say(steps: list[Step], title: str) -> None:
    """Say which step begins, by how its title begins."""
    number, step = next(s for s in enumerate(steps, 1) if s[1].title.startswith(title))
    log.info("Step %d of %d: %s", number, len(steps), step.title)


def _require_usable(settings: LearnSettings, overrides: tuple[str, ...]) -> None:
    """Raise `SsplError` for what stage 2 would refuse, before anybody finds or labels a face."""
    finetune_settings("small", _joined(settings), overrides)
    for text in settings.features:
        path = parse_features(text)["path"]
        file = file_of(path)
        if path != START and not file.exists():
            raise SettingsError(f"features: {file}: no such file.")


def _joined(settings: LearnSettings) -> dict[str, Any]:
    if not settings.features:
        return {}
    return {"features": list(settings.features), "frozen_share": "validation"}


def _note(settings: LearnSettings, out: Path) -> None:
    """Write down what is asked for; refuse to mix it with another task's work."""
    file, text = out / LEARN_FILE, dump_yaml(settings)
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise SettingsError(f"{out}: holds the work of another 'sspl learn'; choose another --out.")
    write_text(file, text)


def _label(
    settings: LearnSettings, out: Path, crops: Path, overrides: tuple[str, ...]
) -> dict[str, int]:
    """Bring the labels to the faces; without any ask for them on the page, until it is stopped."""
    if settings.labels is not None:
        faces, names = read_labels(settings.labels, settings.photographs), largest_faces(crops)
    else:
        answers = out / "answers.csv"
        if not answers.is_file():
            _ask(settings, crops, answers, learn_command(settings, out, overrides))
        faces = read_labels(answers, crops)
        names = {name: name for name in faces.names}
    splits = write_labels(
        faces, names, settings.attributes, settings.test, settings.seed, out / "labels.csv"
    )
    parts = (f"{counted(count, 'face')} {USES[split]}" for split, count in sorted(splits.items()))
    log.info("labels: %s", ", ".join(parts))
    return splits


def _ask(settings: LearnSettings, crops: Path, answers: Path, again: str) -> None:
    from sspl.apps.labelling.labelling_settings import LabellingSettings
    from sspl.apps.labelling.start import run_labelling

    data = DataSettings(format="folder", root=crops, crop=CROP)
    log.info("label the faces that the page shows; then press Ctrl-C, and repeat this command")
    run_labelling(
        data,
        settings.attributes,
        answers,
        LabellingSettings(),
        source=Path(START),
        test=settings.test,
        then=again,
        seed=settings.seed,
    )


def _stage_1(settings: LearnSettings, out: Path, crops: Path, faces: int, steps: list[Step]) -> str:
    """Learn from the faces without labels where that pays; return what stage 2 starts from."""
    epochs, run, masks = stage_1_epochs(faces, settings.minutes), out / "stage1", out / "masks"
    if not epochs:
        log.info(
            "stage 2 starts from the weights in the package: %s and %g minutes do not pay for "
            "stage 1 on them",
            counted(faces, "face"),
            settings.minutes,
        )
        return START
    data = DataSettings(format="folder", root=crops, masks=masks, crop=CROP)
    _say(steps, "parse")
    if not finished(run):
        make_masks(
            open_parser(START),
            DataSettings(format="folder", root=crops).open(),
            masks,
            MASKS_AT_ONCE,
            "skip",
        )
        given = {
            "seed": settings.seed,
            "data": [data.absolute().model_dump(exclude_unset=True)],
            "tasks": ["pst", "pct"],
            "backbone_weights": START,
            "optim": {"epochs": epochs},
        }
        _say(steps, "stage 1")
        content = merge(preset("small", "pretrain"), given)
        pretrain(build(PretrainSettings, content), run, resume=(run / SETTINGS_FILE).is_file())
    if ready_heads_of(run) is None:
        _say(steps, "heads")
        add_drawn_heads(run, pick_device("auto"))
    return str(run.absolute())


def _stage_2(
    settings: LearnSettings,
    out: Path,
    given: dict[str, Any],
    overrides: tuple[str, ...],
    steps: list[Step],
    faces: int,
) -> None:
    """Fine-tune; where networks of others help and faces have no labels, a teacher before it."""
    joined = _joined(settings)
    _say(steps, "stage 2")
    if not any(step.title.startswith(TAUGHT) for step in steps):
        _finetune(out / "fine", given | joined, overrides)
        return
    teacher, names = out / "teacher", out / "unlabelled.csv"
    _finetune(teacher, given | joined, overrides)
    _say(steps, TAUGHT)
    crops, labelled = out / "faces", out / "labels.csv"
    write_unlabelled(crops, labelled, names)
    more = DataSettings(format="csv", root=names, images=crops, crop=CROP).absolute()
    asked = {"teachers": [str(teacher.absolute())], "data": [more.model_dump(exclude_unset=True)]}
    _finetune(out / "fine", given | {"distillation": asked} | taught_settings(faces), overrides)


def _finetune(run: Path, given: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Fine-tune, or go on; what is finished must be of the same settings, networks and faces."""
    settings = finetune_settings("small", given, overrides)
    if finished(run):
        require_same_settings(run / SETTINGS_FILE, settings)
        require_same_inputs(run, finetune_inputs(settings, partition(settings)), resumed=True)
    else:
        finetune(settings, run, resume=(run / SETTINGS_FILE).is_file())


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
