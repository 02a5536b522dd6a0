"""Label Studio's exports, in JSON or JSON-MIN, whose tasks were answered by choices.

JSON (https://labelstud.io/guide/task_format) is a list of tasks, each with `data` and
`annotations`, whose `result` has an item of type `choices` for each question that was answered.
JSON-MIN (https://labelstud.io/guide/export) has one flat object for each annotation: the task's
data, and for each question its choice, or `{"choices": [...]}` where there are several.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.columns import no_attribute
from sspl.data.adapters.source import LabelTable, NameBook, OnMissing, assemble
from sspl.data.adapters.table import IMAGE, SPLIT
from sspl.data.records import IMAGE_SUFFIXES, MISSING, SPLITS, FaceSet, Labels
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.io.files import read_json

log = logging.getLogger(__name__)

YES: Final = "yes"
NO: Final = "no"
UNSURE: Final = "not sure"
WORDS: Final[Mapping[str, int]] = {
    YES: 1, "true": 1, "1": 1, "y": 1, "present": 1, "positive": 1, "ja": 1, "oui": 1, "sí": 1,
    NO: 0, "false": 0, "0": 0, "-1": 0, "n": 0, "absent": 0, "negative": 0, "nein": 0, "non": 0,
    UNSURE: MISSING, "unsure": MISSING, "unknown": MISSING,
}  # fmt: skip
"""Choices that answer a question; any other choice is the name of an attribute that is ticked."""

NAME: Final = "name"

LOCAL_FILES: Final = "/data/local-files/?d="
"""What stands before a path below Label Studio's LOCAL_FILES_DOCUMENT_ROOT."""

_UPLOAD: Final = re.compile(r"/?data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?(.+)")
"""An uploaded file: Label Studio puts eight hexadecimal digits before its name."""

_NO_QUESTION: Final = frozenset({
    IMAGE, NAME, SPLIT, "id", "annotator", "annotation_id", "created_at", "updated_at",
    "lead_time", "agreement",
})  # fmt: skip
"""What JSON-MIN has besides answers, and data that are none."""

_FEW: Final = 8
"""Different texts that may be the choices of a question."""

Chosen = Mapping[str, Sequence[str]]
"""The choices of an annotation, by the name of the question."""


@dataclass(frozen=True)
class Task:
    """A picture, and pairs of who annotated it and what they chose; skipped ones are left out."""

    place: int
    data: Mapping[str, Any]
    answers: Sequence[tuple[str, Chosen]]


class Export:
    """The tasks of one file.

    Attributes:
        file: where they are from.
        unit: what their numbers are: `task` where each has its id, else `entry`, from 1.
        tasks: in the order of the file.
        questions: what is ticked in each; nothing where it is answered by yes and no.

    Raises:
        DataError: for a file that is no such export, naming the task.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        entries = read_json(file)
        if not isinstance(entries, list) or not entries:
            raise DataError(f"{file}: expected a list of tasks, as Label Studio exports them.")
        ids: list[Any] = [e.get("id") if isinstance(e, dict) else None for e in entries]
        named = all(type(number) is int for number in ids)
        self.unit = "task" if named else "entry"
        placed = list(zip(ids if named else range(1, len(ids) + 1), entries, strict=True))
        for place, entry in placed:
            if not isinstance(entry, dict) or ("data" in entry) != ("data" in placed[0][1]):
                raise self.error(place, "is no task as the others of the file are")
        self.tasks: Sequence[Task] = (
            [self._task(place, entry) for place, entry in placed]
            if "data" in placed[0][1]
            else self._flat_tasks(placed)
        )
        self.questions = self._questions()
        self.attributes = tuple(
            dict.fromkeys(a for name, ticks in self.questions.items() for a in ticks or (name,))
        )
        if not self.attributes:
            raise DataError(f"{file}: no task has an answer by choices; nothing can be read.")

    def error(self, place: int, what: str) -> DataError:
        """Return the error of one task."""
        return DataError(f"{self.file}, {self.unit} {place}: {what}.")

    def _task(self, place: int, entry: Mapping[str, Any]) -> Task:
        data, annotations = entry["data"], entry.get("annotations", [])
        if not isinstance(data, dict) or not isinstance(annotations, list):
            raise self.error(place, "'data' must be an object and 'annotations' a list")
        answers = []
        for annotation in annotations:
            results = annotation.get("result") if isinstance(annotation, dict) else None
            if not isinstance(results, list):
                raise self.error(place, "an annotation has no list 'result'")
            if not annotation.get("was_cancelled"):
                who = _who(annotation.get("completed_by"))
                answers.append((who, self._chosen(place, results)))
        return Task(place, data, answers)

    def _chosen(self, place: int, results: Sequence[Any]) -> Chosen:
        chosen: dict[str, list[str]] = defaultdict(list)
        for item in results:
            if not isinstance(item, dict):
                raise self.error(place, "an item of 'result' is no object")
            if item.get("type") != "choices":
                continue  # A box or a text beside the question.
            choices, name = _choices(item.get("value")), item.get("from_name")
            if choices is None or not isinstance(name, str):
                raise self.error(place, "choices need a 'from_name' and texts in 'value.choices'")
            chosen[name] += choices
        return chosen

    def _flat_tasks(self, placed: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Task]:
        """Return the tasks of JSON-MIN, in which a question is told from data by its values."""
        texts: dict[str, set[str]] = defaultdict(set)
        questions: dict[str, None] = {}
        for _, entry in placed:
            for key in entry.keys() - _NO_QUESTION:
                if isinstance(entry[key], str):
                    texts[key].add(entry[key])
                elif _choices(entry[key]) is not None:
                    questions[key] = None
        for key, found in texts.items():
            meaning = no_attribute(key)
            if meaning and _answer(found):
                log.warning("%s: '%s' seems to hold %s and is not read.", self.file, key, meaning)
            elif _answer(found) or any(text.lower() in (YES, NO, UNSURE) for text in found):
                questions[key] = None
            elif not meaning and _may_be_choices(found, len(placed)):
                log.warning(
                    "%s: '%s' is not read, since nothing says whether it was a question (%s); "
                    "Label Studio's export as JSON does.",
                    self.file, key, ", ".join(sorted(found)),
                )  # fmt: skip
        tasks: dict[int, tuple[Mapping[str, Any], list[tuple[str, Chosen]]]] = {}
        for place, entry in placed:
            chosen = {
                key: [value] if isinstance(value, str) else _choices(value) or []
                for key, value in entry.items()
                if key in questions
            }
            _, answers = tasks.setdefault(place, (entry, []))
            answers.append((_who(entry.get("annotator")), chosen))
        return [Task(place, data, answers) for place, (data, answers) in tasks.items()]

    def _questions(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, dict[str, None]] = {}
        for task in self.tasks:
            for _, chosen in task.answers:
                for name, choices in chosen.items():
                    found.setdefault(name, {}).update(dict.fromkeys(choices))
        self._require_two_values(found)
        for name, said in found.items():
            choices = tuple(said)
            words = [c for c in choices if c.lower() in WORDS]
            if words and len(words) < len(choices):
                other = next(c for c in choices if c.lower() not in WORDS)
                place = next(
                    t.place for t in self.tasks for _, a in t.answers if other in a.get(name, ())
                )
                raise self.error(
                    place,
                    f"'{name}' is answered '{other}', but elsewhere '{words[0]}'; answer a "
                    f"question by {YES}, {NO} and {UNSURE}, or by names of attributes alone",
                )
        questions = {
            name: () if _answer(choices) else tuple(choices) for name, choices in found.items()
        }
        owners: dict[str, str] = {name: name for name, ticks in questions.items() if not ticks}
        for name, ticks in questions.items():
            for tick in ticks:
                if (other := owners.setdefault(tick, name)) != name:
                    raise DataError(
                        f"{self.file}: '{tick}' can be chosen for '{other}' and for '{name}', so "
                        f"it does not say which attribute it is; answer each by {YES}, {NO} and "
                        f"{UNSURE}, or call the choices by names of attributes."
                    )
        return questions

    def _require_two_values(self, found: Mapping[str, Iterable[str]]) -> None:
        """Raise `DataError` where 0 is most likely not known, beside 1 and -1 in the same file."""
        minus = next((name for name, said in found.items() if "-1" in said), None)
        zero = next((name for name, said in found.items() if "0" in said), None)
        if minus is not None and zero is not None:
            raise DataError(
                f"{self.file}: '{minus}' is answered -1 and '{zero}' is answered 0, so that 0 may "
                f"be no, or not known; answer by {YES}, {NO} and {UNSURE}."
            )

    def values(self, task: Task, chosen: Chosen) -> list[int]:
        """Return what an annotation says of each attribute; `MISSING` where that is nothing.

        Raises `DataError` for a question that is answered by yes and no at once.
        """
        found = dict.fromkeys(self.attributes, MISSING)
        for name, ticks in self.questions.items():
            choices = chosen.get(name, ())
            found |= {tick: int(tick in choices) for tick in ticks}
            answers = {WORDS[choice.lower()] for choice in choices if not ticks}
            if len(answers) > 1:
                raise self.error(task.place, f"'{name}' is answered {' and '.join(choices)}")
            if answers:
                found[name] = answers.pop()
        return list(found.values())

    def table(self, images: Path | None = None, who: str | None = None) -> LabelTable:
        """Return the labels, of one annotator or of all.

        Where annotators differ the label is `MISSING`, and the log says how often.

        Args:
            images: folder of the pictures; folders that a task puts before that are left away.
            who: whose annotations count; tasks without one of theirs are left out.
        """
        book, differing = NameBook(self.file, self.unit, images), 0
        rows: list[list[int]] = []
        splits: list[str | None] = []
        for task in self.tasks:
            said = [self.values(task, c) for whose, c in task.answers if who in (None, whose)]
            if who is not None and not said:
                continue
            book.add(self._name(task, images), task.place)
            split = task.data.get(SPLIT) or None
            if split not in (None, *SPLITS):
                raise self.error(task.place, f"unknown split {split!r}; use {', '.join(SPLITS)}")
            splits.append(split)
            known = [set(answers) - {MISSING} for answers in zip(*said, strict=True)]
            known = known or [set()] * len(self.attributes)
            rows.append([k.pop() if len(k) == 1 else MISSING for k in known])
            differing += sum(len(k) > 1 for k in known)
        if differing:
            log.warning(
                "%s: %d answers differ between annotators and count as unknown; 'sspl data "
                "agreement' lists them.",
                self.file,
                differing,
            )
        labels: Labels = np.array(rows, dtype=np.int8).reshape(len(rows), len(self.attributes))
        return LabelTable(
            self.file, self.attributes, book.names, book.places, labels, tuple(splits), self.unit
        )

    @property
    def annotators(self) -> tuple[str, ...]:
        """Who annotated, in the order of the file."""
        return tuple(dict.fromkeys(who for task in self.tasks for who, _ in task.answers))

    def _name(self, task: Task, images: Path | None) -> str:
        data = task.data
        keys = [IMAGE] if IMAGE in data else [k for k, v in data.items() if _is_picture(v)]
        if len(keys) != 1 or not isinstance(data[keys[0]], str) or not data[keys[0]]:
            raise self.error(task.place, f"'{IMAGE}' does not say which picture it is of")
        path = _path(data[keys[0]])
        name = data.get(NAME)
        if isinstance(name, str) and f"/{path}".endswith(f"/{name}"):
            return name  # As it was written here.
        parts = path.replace("\\", "/").split("/")
        shorter = ("/".join(parts[i:]) for i in range(len(parts)) if parts[i])
        return next((p for p in shorter if images is not None and (images / p).is_file()), path)


def read_label_studio(
    file: Path,
    images: Path | None = None,
    schema: AttributeSchema | None = None,
    missing: OnMissing = "fail",
) -> FaceSet:
    """Read the labels of an export; see `Export.table`.

    Args:
        file: JSON or JSON-MIN.
        images: folder of the pictures; the file's own by default.
        schema, missing: as in `sspl.data.adapters.table.read_table`.

    Raises `DataError` naming file and task.
    """
    folder = images or file.parent
    return assemble(Export(file).table(folder), folder, schema, missing)


def _who(given: Any) -> str:
    if isinstance(given, dict):
        given = next((given[key] for key in ("email", "username", "id") if given.get(key)), "")
    return "?" if given in (None, "") else str(given)


def _choices(value: Any) -> list[str] | None:
    choices = value.get("choices") if isinstance(value, dict) else None
    plain = isinstance(choices, list) and all(isinstance(c, str) for c in choices)
    return choices if plain else None


def _may_be_choices(texts: Collection[str], tasks: int) -> bool:
    return 1 < len(texts) <= _FEW and len(texts) < tasks and not any(map(_is_picture, texts))


def _answer(choices: Iterable[str]) -> bool:
    return all(choice.lower() in WORDS for choice in choices)


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and Path(_path(value)).suffix.lower() in IMAGE_SUFFIXES


def _path(reference: str) -> str:
    """Return the path of a picture in what Label Studio shows it by."""
    _, local, path = reference.partition(LOCAL_FILES)
    if local:
        return unquote(path.partition("&")[0])
    if upload := _UPLOAD.fullmatch(reference):
        return upload[1]
    parts = urlsplit(reference)
    return unquote(parts.path).lstrip("/") if parts.netloc else reference


def _is_json(root: Path) -> bool:
    return root.suffix.lower() == ".json"


LABEL_STUDIO: Final = Adapter(
    name="labelstudio",
    read=read_label_studio,
    options=("images", "schema_file", "on_missing"),
    root="`.json` file",
    labels="choices yes / no / not sure, or names of attributes that are ticked",
    splits="by `split` in the data of its tasks, else none",
    layout="""\
project-1-at-2026-11-27.json      Label Studio's export, JSON or JSON-MIN; images=FOLDER
""",
    fits=_is_json,
)
