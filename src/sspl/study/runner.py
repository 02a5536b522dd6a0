"""Run a study cell by cell, so that it can be killed, gone on with, and shared by processes."""

import copy
import hashlib
import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final

from sspl.data.data_settings import DataSettings, read_once
from sspl.data.inputs import of_faces, require_same_inputs
from sspl.data.records import SPLITS
from sspl.device import pick_device
from sspl.distributed.side_by_side import side_by_side
from sspl.errors import SettingsError, SsplError
from sspl.evaluation.evaluate import describe, judge
from sspl.evaluation.predictions import predictions_file, save_predictions
from sspl.io.files import write_json, write_text
from sspl.io.locks import locked
from sspl.io.run_files import SETTINGS_FILE, finished
from sspl.settings import dump_yaml
from sspl.study.cells import (
    FAILURE_FILE,
    RESULT_FILE,
    Cell,
    StudyPlan,
    cell_folder,
    plan,
    read_json,
    unlabelled_of,
)
from sspl.study.probe_settings import KNNSettings
from sspl.study.results import cell_result, write_results
from sspl.study.study_settings import StudySettings, open_spec
from sspl.study.work import Judged, clear, finetuned, learn, probed, remove_state, taught_by
from sspl.training.feature_settings import LinearSettings
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import FinetuneSettings, RuntimeSettings

POLL_SECONDS: Final = 2.0
STUDY_FILE: Final = "study.yaml"
SECONDS_FILE: Final = "seconds.json"
TEACHER_FOLDER: Final = "teacher"

log = logging.getLogger(__name__)


class Attempt(Enum):
    """How an attempt at a cell ended."""

    DONE = "done"
    FAILED = "failed"
    BUSY = "busy"


class Study:
    """A study in its folder."""

    def __init__(self, settings: StudySettings, out: Path, stage1: Path | None = None) -> None:
        """Open it; `stage1` is where runs of stage 1 lie, `out/pretrained` unless given."""
        self.settings, self.out = settings, out
        self.stage1 = stage1 or out / "pretrained"
        self.started = time.time()
        self.device: str | None = None
        self.processes = 1

    def run(self, cells: list[Cell]) -> dict[str, str]:
        """Run what is not done yet; return the cells that failed, by name, each with its sentence.

        A cell that another process works on is waited for. A cell that fails is recorded, and
        the others go on. Raises `SsplError` when a finished cell had other settings, or when the
        data cannot be read or have no test split.
        """
        with read_once():
            return self._run(self._begun(cells))

    def run_on(self, devices: Sequence[str], cells: list[Cell]) -> dict[str, str]:
        """Run it in a process on each device; return and raise as `run`.

        They share the folder as processes that are started by hand do. The cell of a process that
        dies is done by another; raises `SsplError` when none is left and cells are.
        """
        self.check(cells)
        died = side_by_side([(d, partial(self._on(d, devices).run, cells)) for d in devices])
        left = [c for c in cells if self.ended(cell_folder(self.out, c)) is None]
        if left:
            raise SsplError(
                f"{len(left)} of {len(cells)} cells are not done, since the processes on "
                f"{', '.join(died)} died; repeat the command to go on."
            )
        return self._failures(cells)

    def check(self, cells: list[Cell]) -> None:
        """See that the cells can be run, and begin the folder; raises as `run`."""
        with read_once():
            self._begun(cells)

    def _on(self, device: str, devices: Sequence[str]) -> "Study":
        mine = copy.copy(self)
        mine.device, mine.processes = device, len(devices)
        return mine

    def _begun(self, cells: list[Cell]) -> list[StudyPlan]:
        plans = [plan(self.settings, cell) for cell in cells]
        self._require_same_settings(plans)
        self._require_data(plans)
        write_text(self.out / STUDY_FILE, dump_yaml(self.settings))
        return plans

    def _run(self, plans: list[StudyPlan]) -> dict[str, str]:
        if self.device is not None:
            pick_device(self.device)  # whether it is there is said before any cell
        ended: dict[Cell, Attempt] = {}
        while len(ended) < len(plans):
            before = len(ended)
            for each in plans:
                if each.cell not in ended:
                    attempt = self.attempt(each)
                    if attempt is not Attempt.BUSY:
                        ended[each.cell] = attempt
                        log.info("%d of %d cells", len(ended), len(plans))
            if len(ended) == before:
                time.sleep(POLL_SECONDS)
        write_results(self.out)
        return self._failures([each.cell for each in plans])

    def _failures(self, cells: list[Cell]) -> dict[str, str]:
        failed = [c for c in cells if self.ended(cell_folder(self.out, c)) is Attempt.FAILED]
        return {cell.name: self.failure(cell) for cell in failed}

    def failure(self, cell: Cell) -> str:
        """Return the sentence of a failed cell."""
        found = read_json(cell_folder(self.out, cell) / FAILURE_FILE)
        return str(found["error"]).rstrip(".") if found else "unknown"

    def _require_same_settings(self, plans: list[StudyPlan]) -> None:
        for each in plans:
            folder = cell_folder(self.out, each.cell)
            found = read_json(folder / RESULT_FILE)
            if found is not None and found["settings_hash"] != each.settings_hash:
                raise SettingsError(
                    f"{folder} was run with other settings ({found['settings_hash']}, now "
                    f"{each.settings_hash}); choose another --out, or remove the folder to run the "
                    "cell again."
                )

    def _require_data(self, plans: list[StudyPlan]) -> None:
        faces = self.data().open()
        faces.split("test")
        entries = of_faces(faces, labelled=True)
        for spec in self.settings.unlabelled:
            entries += _entries(spec)
        with locked(self.lock("inputs"), wait=True):
            require_same_inputs(self.out, entries, resumed=True)
            # Of a method's own faces by themselves: it need not be among the cells each time.
            for spec in dict.fromkeys(s for p in plans if p.pretrain for s in p.method.unlabelled):
                digest = hashlib.sha256(spec.encode()).hexdigest()[:8]
                require_same_inputs(self.out / "inputs" / digest, _entries(spec), resumed=True)

    def data(self) -> DataSettings:
        """Return the labelled faces' settings."""
        return open_spec(self.settings.data).model_copy(update={"masks": None})

    def ended(self, folder: Path) -> Attempt | None:
        """Return whether a cell has ended: done at any time, or failed since this study began."""
        if (folder / RESULT_FILE).exists():
            return Attempt.DONE
        failure = read_json(folder / FAILURE_FILE)
        return Attempt.FAILED if failure and failure["time"] >= self.started else None

    def attempt(self, each: StudyPlan) -> Attempt:
        """Run a cell unless it has ended or another process works on it or on its stage 1."""
        folder = cell_folder(self.out, each.cell)
        with locked(self.lock(each.cell.name)) as free:
            if not free:
                return Attempt.BUSY
            if (before := self.ended(folder)) is not None:
                return before
            try:
                for needed in filter(None, (each, each.teacher)):
                    if needed.pretrain is not None and not self.pretrained(needed):
                        return Attempt.BUSY
                self._run_cell(each, folder)
            except Exception as error:  # one wrong cell must not end a night's work
                self._record_failure(folder, error)
                log.warning("%s failed: %s", each.cell.name, error)
                return Attempt.FAILED
        return Attempt.DONE

    def lock(self, name: str) -> Path:
        """Return the lock file of a cell."""
        return self.out / "locks" / f"{name.replace('/', '--')}.lock"

    def stage1_lock(self, each: StudyPlan) -> Path:
        """Return the lock file of a cell's stage 1."""
        return self.stage1 / f"{each.stage1}.lock"

    def _record_failure(self, folder: Path, error: Exception) -> None:
        sentence = str(error) if isinstance(error, SsplError) else repr(error)
        trace = None if isinstance(error, SsplError) else traceback.format_exc()
        content = {"error": sentence, "time": time.time(), "traceback": trace}
        write_json(folder / FAILURE_FILE, content)

    def pretrained(self, each: StudyPlan) -> bool:
        """See to it that a cell's stage 1 is there; return False when another process is at it.

        Raises `SsplError` when it failed since this study began, or fails now.
        """
        assert each.pretrain is not None
        folder = self.stage1 / each.stage1
        if finished(folder):
            return True
        failure_file = self.stage1 / f"{each.stage1}.failure.json"
        with locked(self.stage1_lock(each)) as free:
            if not free:
                return False
            failure = read_json(failure_file)
            if failure and failure["time"] >= self.started:
                raise SsplError(f"its stage 1 failed: {failure['error']}")
            if not finished(folder):
                log.info("stage 1 %s", each.stage1)
                try:
                    self._pretrain(each, folder)
                except Exception as error:
                    write_json(failure_file, {"error": str(error), "time": time.time()})
                    raise
        failure_file.unlink(missing_ok=True)
        return True

    def _pretrain(self, each: StudyPlan, folder: Path) -> None:
        assert each.pretrain is not None
        specs = unlabelled_of(self.settings, each.method)
        update = self._place(each.pretrain.runtime) | {"data": tuple(open_spec(s) for s in specs)}
        settings = each.pretrain.model_copy(update=update)
        resumed, begun = (folder / SETTINGS_FILE).exists(), time.monotonic()
        pretrain(settings, folder, resume=resumed)
        if not resumed:
            seconds = round(time.monotonic() - begun, 1)
            write_json(folder / SECONDS_FILE, {"train_seconds": seconds})
            self._report_overrun(each.stage1, seconds, each.stage1_minutes)
        remove_state(folder)

    def _run_cell(self, each: StudyPlan, folder: Path) -> None:
        log.info("%s", each.cell.name)
        settings = self._stage2(each)
        found = self._judged(each, settings, folder)
        figures = {
            split: describe(p, judge(p, found.rates), resamples=0)
            for split, p in found.predictions.items()
        }
        save_predictions(predictions_file(folder, "test"), found.predictions["test"])
        placed = replace(each, finetune=settings)
        result = cell_result(placed, self.settings.name, figures, found.seconds, found.details)
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        write_json(folder / RESULT_FILE, result)
        write_results(self.out)
        if found.seconds is not None:
            self._report_overrun(each.cell.name, found.seconds, each.minutes)

    def _judged(self, each: StudyPlan, settings: FinetuneSettings, folder: Path) -> Judged:
        """Return what a cell's model says, its teacher, if any, fine-tuned before it."""
        run, keep = folder / "run", self.settings.keep_models
        if each.cell.protocol != "finetune":
            return probed(settings, each.features, self._probe(each))
        if each.teacher is None:
            return finetuned(settings, run, keep)
        teacher = folder / TEACHER_FOLDER
        before = learn(self._stage2(each.teacher), teacher)
        found = finetuned(taught_by(settings, teacher), run, keep)
        clear(teacher, keep)
        if before is None or found.seconds is None:
            return replace(found, seconds=None)
        return replace(found, seconds=before + found.seconds)

    def _probe(self, each: StudyPlan) -> LinearSettings | KNNSettings:
        return self.settings.linear if each.cell.protocol == "linear" else self.settings.knn

    def _stage2(self, each: StudyPlan) -> FinetuneSettings:
        source = each.start
        if each.pretrain is not None:
            source = (self.stage1 / each.stage1).absolute()
        kept = each.finetune.kept_features or (self.out / "features").absolute()
        update = {"data": self.data(), "pretrained": source, "kept_features": kept}
        return each.finetune.model_copy(update=update | self._place(each.finetune.runtime))

    def _place(self, runtime: RuntimeSettings) -> dict[str, Any]:
        """Return where this process computes, with its share of the machine's memory."""
        if self.device is None:
            return {}
        own = {"device": self.device, "cache_gb": runtime.cache_gb / self.processes}
        return {"runtime": runtime.model_copy(update=own)}

    def _report_overrun(self, name: str, seconds: float, minutes: float) -> None:
        if self.settings.cost is None and seconds > 60 * minutes:
            log.warning("%s took %.1f minutes of %.1f", name, seconds / 60, minutes)


def _entries(spec: str) -> list[tuple[str, str]]:
    return [(f"{spec}: {name}", about) for name, about in of_faces(open_spec(spec).stream(SPLITS))]
