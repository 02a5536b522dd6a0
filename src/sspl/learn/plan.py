"""Which steps there are, what each would be as a command of its own, and how long it takes."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sspl.io.progress import spoken
from sspl.learn.learn_settings import LearnSettings

START: Final = "builtin"
CROP: Final = "celeba"
"""How the crops that are made here are framed."""

PER_SECOND: Final = {
    "faces": 10.0, "masks": 8.0, "stage1": 150.0, "stage2": 150.0, "features": 20.0,
}  # fmt: skip
"""Pictures a second on two cores, by which the plan reckons; docs/scale.md has the first four."""

HEADS: Final = 150.0
"""Seconds that it takes to draw faces and to learn heads from them."""

ENOUGH_FACES: Final = 1000
FEWEST_EPOCHS, MOST_EPOCHS = 10, 60
"""Faces, and epochs over them, from which stage 1 on them is worth its time."""

STAGE_2_EPOCHS: Final = 40

ENOUGH_TAUGHT: Final = 200
"""Faces without labels from which it is worth while to learn a teacher's answers."""

TAUGHT: Final = "learn the teacher's answers"
"""How the title of that step begins."""

TAUGHT_LOOKS, FEWEST_TAUGHT_EPOCHS = 27_000, 5
"""How many faces are then looked at in all, and the epochs that this takes at least."""


@dataclass(frozen=True)
class Step:
    """A step: a word for it, the command that it is, and about how long it takes."""

    title: str
    command: str
    seconds: float


def stage_1_epochs(faces: int, minutes: float) -> int:
    """Return how many epochs of stage 1 the budget pays for; 0 where that is not worth it."""
    seconds = 60 * minutes - faces / PER_SECOND["masks"] - HEADS
    epochs = min(MOST_EPOCHS, int(seconds * PER_SECOND["stage1"] / max(1, faces)))
    return epochs if faces >= ENOUGH_FACES and epochs >= FEWEST_EPOCHS else 0


def taught_epochs(faces: int) -> int:
    """Return the epochs over so many labelled and taught faces."""
    return max(FEWEST_TAUGHT_EPOCHS, min(STAGE_2_EPOCHS, TAUGHT_LOOKS // max(1, faces)))


def taught_settings(faces: int) -> dict[str, Any]:
    """Return what stage 2 does otherwise where it learns a teacher's answers of so many faces."""
    return {"optim": {"epochs": taught_epochs(faces)}, "ema": 0.99, "evaluate_every": 1}


def plan(
    settings: LearnSettings,
    out: Path,
    faces: int,
    labelled: int,
    overrides: tuple[str, ...] = (),
) -> list[Step]:
    """Return the steps for so many faces, of which so many are labelled.

    `overrides` are settings of stage 2 as key=value.
    """
    epochs = stage_1_epochs(faces, settings.minutes)
    crops, fine = out / "faces", out / "fine"
    rate, start = PER_SECOND, START
    steps = [
        Step(
            "find the faces",
            _command("faces", "detect", settings.photographs, "--largest", "--on-error", "skip",
                     "--out", crops),
            faces / rate["faces"],
        )
    ]  # fmt: skip
    if settings.labels is None:
        names = ",".join(settings.attributes)
        page = _command("label", f"folder:{crops},crop={CROP}", "--attributes", names,
                        "--from", START, "--test", settings.test, "--seed", settings.seed,
                        "--out", out / "answers.csv")  # fmt: skip
        steps.append(Step("label faces on a local page, until you stop it", page, 0.0))
    if epochs:
        masks, start = out / "masks", str(out / "stage1")
        steps += [
            Step(
                "parse the faces",
                _command("parser", "run", "builtin", crops, "--out", masks),
                faces / rate["masks"],
            ),
            Step(
                f"stage 1 on the faces, {epochs} epochs",
                _command("pretrain", "--data", f"folder:{crops},masks={masks},crop={CROP}",
                         "--out", start, "tasks=[pst,pct]", f"optim.epochs={epochs}",
                         "backbone_weights=builtin"),
                epochs * faces / rate["stage1"],
            ),
            Step("heads for the attributes of drawn faces", _command("heads", start), HEADS),
        ]  # fmt: skip
    return [
        *steps,
        *_stage_2(settings, out, start, faces, labelled, overrides),
        Step("judge on the test faces", _command("evaluate", fine, "--split", "test"), 10.0),
        Step("write the report", _command("report", fine, "--out", out / "report.html"), 5.0),
        Step("pack the model", _command("model", "pack", fine, "--out", out / "model"), 1.0),
    ]  # fmt: skip


def _stage_2(
    settings: LearnSettings,
    out: Path,
    start: str,
    faces: int,
    labelled: int,
    overrides: tuple[str, ...],
) -> list[Step]:
    crops, fine, rate = out / "faces", out / "fine", PER_SECOND
    data = f"csv:{out / 'labels.csv'},images={crops},crop={CROP}"
    common = ("--data", data, "--from", start, "--seed", settings.seed)
    title = f"stage 2 on the labels, held out for the test: {settings.test:.0%}"
    seconds = STAGE_2_EPOCHS * labelled / rate["stage2"]
    if not settings.features:
        return [Step(title, _command("finetune", *common, "--out", fine, *overrides), seconds)]
    beside = f"features=[{','.join(map(repr, settings.features))}]"
    given = (beside, "frozen_share=validation", *overrides)
    seconds += labelled / rate["features"]
    others = faces - labelled
    if others < ENOUGH_TAUGHT:
        joined = _command("finetune", *common, "--out", fine, *given)
        return [Step(f"{title}; the other networks stay beside", joined, seconds)]
    teacher, more = out / "teacher", f"csv:{out / 'unlabelled.csv'},images={crops},crop={CROP}"
    how = taught_settings(faces)
    epochs = how["optim"]["epochs"]
    words = (
        f"optim.epochs={epochs}",
        f"ema={how['ema']}",
        f"evaluate_every={how['evaluate_every']}",
    )
    student = ("--teacher", teacher, "--unlabelled", more, "--out", fine, *words, *overrides)
    return [
        Step(
            f"{title}: a teacher", _command("finetune", *common, "--out", teacher, *given), seconds
        ),
        Step(
            f"{TAUGHT} of {others:,} other faces, {epochs} epochs",
            _command("finetune", *common, *student),
            others / rate["features"] + epochs * faces / rate["stage2"],
        ),
    ]


def learn_command(settings: LearnSettings, out: Path, overrides: tuple[str, ...] = ()) -> str:
    """Return the command that asked for this, and goes on with it."""
    usual = LearnSettings.model_fields
    given: list[object] = []
    for name in ("labels", "test", "minutes", "seed"):
        if (value := getattr(settings, name)) != usual[name].default:
            given += [f"--{name}", value]
    asked = ["--attributes", ",".join(settings.attributes)] if settings.attributes else []
    for text in settings.features:
        given += ["--features", text]
    return _command("learn", settings.photographs, *asked, *given, "--out", out, *overrides)


def plan_text(steps: list[Step], done: int = 0) -> str:
    """Return the steps in words, and how long those take together that are not done."""
    lines = [
        f"{number}. {step.title}{_length(step, number <= done)}\n   {step.command}"
        for number, step in enumerate(steps, 1)
    ]
    total = spoken(sum(step.seconds for step in steps[done:]))
    return "\n".join([*lines, f"About {total} on two cores, your own work apart."])


def _length(step: Step, done: bool) -> str:
    if done:
        return ": done"
    return f" (about {spoken(step.seconds)})" if step.seconds else ""


def _command(*words: object) -> str:
    return shlex.join(["sspl", *map(str, words)])
