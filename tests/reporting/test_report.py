"""The HTML pages: they stand alone, say what the files say, and show no face unless asked."""

import base64
import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import browsing, needs_chromium
from pages import assert_stands_alone
from shared import TINY, draw_faces, learn, refused, sspl
from sspl.data.data_settings import parse_data_spec
from sspl.domain.wording import in_words
from sspl.evaluation.predictions import load_predictions, save_predictions
from sspl.reporting.charts import Bar, Series, bar_chart, line_chart, reliability_chart, ticks
from sspl.reporting.mistakes import confident_mistakes
from sspl.reporting.page import bounds, cell, percent
from sspl.reporting.run_report import without_folders
from sspl.training import deciding

PAPER, LANDSCAPE = 718, 1046
"""Px across A4, less the margins that a browser leaves."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `faces`, `pre` (stage 1) and `fine` (stage 2, judged by race on all faces)."""
    root = tmp_path_factory.mktemp("report")
    faces = draw_faces(root, 80, seed=3)
    learn(
        "pretrain",
        f"celeba:{faces},masks={faces / 'masks'}",
        root / "pre",
        *TINY,
        "task.prt.patch_size=32",
        "optim.epochs=2",
    )
    learn(
        "finetune",
        f"celeba:{faces}",
        root / "fine",
        "--from",
        root / "pre",
        "--labels",
        40,
        *TINY,
        "optim.epochs=2",
        "evaluate_every=1",
    )
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "race", *lines[1].split()])
        for i, (name, *values) in enumerate(line.split() for line in lines[2:]):
            writer.writerow([name, "ab"[i % 2], *values])
    data = f"csv:{root / 'labels.csv'},images={faces / 'img_align_celeba'},group_columns=race"
    sspl("evaluate", root / "fine", "--data", data, "--split", "all", "--resamples", 100)
    return root


def report(run: Path, out: Path, *options: object) -> str:
    sspl("report", run, "--out", out, *options)
    return out.read_text(encoding="utf-8")


def test_figures_of_the_page_are_those_of_the_file(runs: Path, tmp_path: Path) -> None:
    page = assert_stands_alone(report(runs / "fine", tmp_path / "r.html", "--split", "all"))
    found = json.loads((runs / "fine" / "evaluation-all.json").read_text())
    start = next(i for i, row in enumerate(page.rows) if row[-1]["text"] == "ECE")
    columns = (
        "positives", "negatives", "accuracy", "majority_accuracy", "balanced_accuracy",
        "average_precision", "auc", "f1", "calibration_error",
    )  # fmt: skip
    judged = {n: row for n, row in found["attributes"].items() if n not in found["left_out"]}
    for row, (name, figures) in zip(page.rows[start + 1 :], judged.items(), strict=False):
        assert row[0]["text"].split("*")[0].strip() == in_words(name)
        for shown, column in zip(row[1:], columns, strict=True):
            value = figures[column]
            assert float(shown["data-value"]) == value
            assert shown["text"] == (str(value) if column.endswith("ives") else percent(value))
    mean = page.rows[start + 1 + len(judged)]
    assert mean[0]["text"] == "mean"
    for shown, column in zip(mean[3:], columns[2:], strict=True):
        assert float(shown["data-value"]) == found["mean"][column]
    low, high = found["intervals"]["mean"]["accuracy"]
    assert f"95 %: {100 * low:.1f} to {100 * high:.1f}" in page.text
    assert "100 resamples of 80 faces" in page.text
    assert "40 (a random subset, seed 0)" in page.text


def test_decisions_of_the_page_are_those_of_the_file(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "FEWEST", 4)  # of eight validation faces
    run = Path(shutil.copytree(runs / "fine", tmp_path / "run"))
    plain = assert_stands_alone(report(run, tmp_path / "plain.html", "--split", "all"))
    assert "Accuracy when sure" not in plain.text
    rule = ("--thresholds", "balanced", "--sure-accuracy", 0.8)
    sspl("model", "decide", run, "Smiling=0.4", *rule)
    page = assert_stands_alone(report(run, tmp_path / "r.html", "--split", "all"))
    found = json.loads((run / "evaluation-all.json").read_text())["decisions"]
    (start,) = (i for i, row in enumerate(page.rows) if row[-1]["text"].startswith("Accuracy when"))
    for row, (name, figures) in zip(page.rows[start + 1 :], found.items(), strict=False):
        assert row[0]["text"] == in_words(name)
        columns = ("threshold", "accuracy", "balanced_accuracy", "unsure", "sure_accuracy")
        for shown, column in zip(row[1:], columns, strict=True):
            assert shown["text"] == percent(figures[column])
    mean = page.rows[start + 1 + len(found)]
    accuracy = sum(row["accuracy"] for row in found.values()) / len(found)
    assert float(mean[2]["data-value"]) == pytest.approx(accuracy)


def test_groups_too_small_to_compare_are_a_sentence_and_no_table(
    runs: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(runs / "fine", tmp_path / "run"))
    file = run / "evaluation-all.json"
    found = json.loads(file.read_text())
    for mean in found["subgroups"][0]["mean"].values():
        mean |= {"attributes": [], "groups": {}, "gap": None}
    file.write_text(json.dumps(found))
    page = assert_stands_alone(report(run, tmp_path / "r.html", "--split", "all"))
    assert "so nothing can be said of gaps" in page.text
    assert [row for row in page.rows if row[0]["text"] == "Accuracy" and len(row) == 5] == []


def test_groups_of_the_page_are_those_of_the_file(runs: Path, tmp_path: Path) -> None:
    page = assert_stands_alone(report(runs / "fine", tmp_path / "r.html", "--split", "all"))
    (way,) = json.loads((runs / "fine" / "evaluation-all.json").read_text())["subgroups"]
    assert "a: 40 faces; b: 40 faces" in page.text
    mean = way["mean"]["accuracy"]
    (row,) = (row for row in page.rows if row[0]["text"] == "Accuracy" and len(row) == 5)
    assert [float(c["data-value"]) for c in row[2:]] == [
        mean["groups"]["a"],
        mean["groups"]["b"],
        mean["gap"]["gap"],
    ]
    clear = mean["gap"]["interval"][0] > 0 and mean["gap"]["beyond"][0] > 0
    assert ("good" in row[-1]["class"]) == clear
    starts = [i for i, row in enumerate(page.rows) if row[-1]["text"] == "Gap FPR"]
    for row, (name, content) in zip(
        page.rows[starts[0] + 1 :], way["attributes"].items(), strict=False
    ):
        assert row[0]["text"] == in_words(name)
        a = content["groups"]["a"]
        assert row[4]["text"] == f"{a['positives']} / {a['negatives']}"
        assert ("few" in row[2]["class"]) == ("true_positive_rate" in a["too_few_for"])
        assert row[2]["text"] == percent(a["true_positive_rate"])


def test_subgroups_are_in_a_table_of_their_own_and_never_stale(runs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs / "fine", tmp_path / "run"))
    (way,) = json.loads((run / "evaluation-all.json").read_text())["subgroups"]
    with (run / "subgroups-all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(way["attributes"])
    for row in rows:
        group = way["attributes"][row["attribute"]]["groups"][row["group"]]
        assert int(row["positives"]) == group["positives"]
        assert float(row["accuracy"]) == group["accuracy"]
        assert row["too_few_for"].split() == group["too_few_for"]
    sspl("evaluate", run, "--split", "all", "--resamples", 0)
    assert not (run / "subgroups-all.csv").exists()
    page = assert_stands_alone(report(run, tmp_path / "r.html", "--split", "all"))
    assert "resamples" not in page.text
    assert refused("evaluate", run, "--by", "race").startswith("--by race:")


def test_faces_are_shown_only_when_asked_for(runs: Path, tmp_path: Path) -> None:
    # A model so sure of everything that it must be wrong with confidence.
    sure = tmp_path / "sure"
    shutil.copytree(runs / "fine", sure)
    predictions = load_predictions(sure / "predictions-all.npz")
    said = np.where(predictions.labels == 1, 0.02, 0.97).astype(np.float32)
    save_predictions(sure / "predictions-all.npz", replace(predictions, probabilities=said))
    plain = report(sure, tmp_path / "plain.html", "--split", "all")
    page = assert_stands_alone(plain)
    assert not [t for t, _ in page.tags if t == "img"]
    assert "they are personal data" in page.text
    assert ".jpg" not in plain
    assert str(runs.parent) not in plain
    shown = assert_stands_alone(report(sure, tmp_path / "f.html", "--split", "all", "--faces"))
    images = [a for t, a in shown.tags if t == "img"]
    assert len(images) == 24
    assert all(a["src"].startswith("data:image/jpeg;base64,") for a in images)
    assert "This page shows faces of people." in shown.text


def test_confident_mistakes_by_hand(runs: Path) -> None:
    given = load_predictions(runs / "fine" / "predictions-all.npz").select(
        range(5), ("Smiling", "Bald")
    )
    given = replace(
        given,
        labels=np.array([[1, 0], [0, -1], [0, 1], [1, 1], [0, 0]], np.int8),
        probabilities=np.array(
            [[0.95, 0.2], [0.95, 0.99], [0.4, 0.05], [0.08, 0.9], [0.6, 0.1]], np.float32
        ),
    )
    found = confident_mistakes(given, None, None)
    assert (found["answers"], found["confident"], found["wrong"]) == (9, 6, 3)
    rows = {row["attribute"]: (row["confident"], row["wrong"]) for row in found["rows"]}
    # Of Smiling 0.95 for a yes is right, 0.95 for a no and 0.08 for a yes are wrong.
    assert rows == {"Smiling": (3, 2), "Bald": (3, 1)}


def test_stage_one_shows_its_tasks_on_drawn_faces(runs: Path, tmp_path: Path) -> None:
    page = assert_stands_alone(report(runs / "pre", tmp_path / "p.html"))
    images = [a for t, a in page.tags if t == "img"]
    alts = [a["alt"] for a in images]
    assert sum(a.startswith("Patches of a face;") for a in alts) == 3
    assert sum(a == "Mask by the network." for a in alts) == 3
    assert "Drawn faces" in page.text
    assert "This page shows faces" not in page.text
    assert "Losses" in page.text
    real = assert_stands_alone(report(runs / "pre", tmp_path / "q.html", "--faces"))
    assert "This page shows faces of people." in real.text


def test_a_run_that_was_not_judged_says_so(runs: Path, tmp_path: Path) -> None:
    page = assert_stands_alone(report(runs / "fine", tmp_path / "r.html", "--split", "val"))
    assert "has not been judged on a split called" in page.text
    assert "run.json is not there" in refused("report", runs, "--out", tmp_path / "x.html")


def test_a_log_of_another_shape_is_no_best_epoch(runs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs / "fine", tmp_path / "fine"))
    for text in ("[]", '{"finished": true, "best": 5, "label_counts": []}'):
        (run / "metrics.json").write_text(text)
        page = assert_stands_alone(report(run, tmp_path / "r.html"))
        assert "The weights of epoch" not in page.text


def test_paths_are_cut_down() -> None:
    content: dict[str, Any] = {"root": "/home/ann/faces", "list": ["/x/y", 3], "key": "a/b"}
    assert without_folders(content) == {"root": ".../faces", "list": [".../y", 3], "key": "a/b"}


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0.43, 0.47, [0.43, 0.44, 0.45, 0.46, 0.47]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


def numbers(text: str, name: str) -> list[float]:
    return [float(v) for v in re.findall(rf'{name}="(-?[\d.]+)"', text)]


def test_charts_place_points_to_scale() -> None:
    series = Series("a", [(1, 10), (10, 20), (100, 40)], [(5, 15), None, (40, 40)])
    chart = str(line_chart([series], "t", "x", "y", log_x=True, y_bounds=(0, 50)))
    points = re.findall(r'<polyline class="series s0" points="([^"]*)"', chart)[0].split()
    xs, ys = zip(*(map(float, p.split(",")) for p in points), strict=True)
    # Powers of ten are equally far apart; a step of 20 is twice a step of 10.
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    assert (ys[1] - ys[2]) == pytest.approx(2 * (ys[0] - ys[1]), abs=0.11)
    assert chart.count('class="bar s0"') == 2
    assert "legend" not in chart
    assert line_chart([series, series], "t", "x", "y").count("<li>") == 2


def test_series_in_the_background_share_a_line_of_the_legend() -> None:
    series = [
        Series("a", [(1, 10), (2, 20)]),
        Series("b", [(1, 30), (2, 5)], [(0, 90), None], quiet=True),
        Series("c", [(1, 12), (2, 8)], quiet=True),
        Series("d", [(1, 11), (2, 9)]),
    ]
    chart = str(line_chart(series, "t", "x", "y"))
    assert re.findall(r"<li>.*?</svg>([^<]*)</li>", chart) == ["a", "d", "b, c"]
    picture = chart[: chart.index("<ul")]
    assert picture.count('class="series others"') == 2
    assert picture.count('class="mark') == 4
    assert 'class="bar' not in picture
    # Its line is inside the picture, its bar has no part in the scale.
    assert "90" not in re.findall(r">(\d+)</text>", picture)


def test_reliability_diagonal_and_bars() -> None:
    chart = str(reliability_chart([(20.0, 20.0, 4), (60.0, 60.0, 1)], "t"))
    x, y = numbers(chart, "cx"), numbers(chart, "cy")
    assert x[1] - x[0] == pytest.approx(y[0] - y[1], abs=0.11)
    assert numbers(chart, "r")[0] > numbers(chart, "r")[1]
    bars = str(bar_chart([Bar("A", 3, (1, 5), True), Bar("B<", -1, (-3, 1), False)], "t", "x"))
    assert "B&lt;" in bars
    assert 'class="bar s0"' in bars
    assert 'class="bar s7"' in bars
    # Names stand beside the bars where there is room, and above them on narrow screens.
    wide, narrow = bars.split('<div class="narrow">')
    assert '"end">A</text>' in wide
    assert '"start">A</text>' in narrow
    assert 'viewBox="0 0 360 ' in narrow
    label = re.findall(r'y="([\d.]+)"[^>]*>A<', narrow)
    line = re.findall(r'bar s0"[^>]*y1="([\d.]+)"', narrow)
    assert 10 < float(line[0]) - float(label[0]) < 20


def test_cells() -> None:
    assert cell(0.12345, (0.1, 0.2)) == (
        '<td class="n" data-value="0.12345">12.3<small>10.0 to 20.0</small></td>'
    )
    assert cell(None) == '<td class="n">-</td>'
    assert bounds(None) == ""


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_screen_and_sorts(runs: Path, tmp_path: Path, width: int) -> None:
    out = tmp_path / "r.html"
    report(runs / "fine", out, "--split", "all")
    with browsing() as browser:
        page = browser.page(width)
        page.goto(out.as_uri())
        assert page.width() <= width
        page.click("#attribute-table thead th:nth-child(4) button")
        column = page.texts("#attribute-table tbody td:nth-child(4)")
        values = [float(v.split("\n")[0]) for v in column]
        assert values[:-1] == sorted(values[:-1], reverse=True)
        assert page.texts("#attribute-table tbody th")[-1] == "mean"
        page.click("#attribute-table thead th:nth-child(1) button")
        names = page.texts("#attribute-table tbody th")
        assert names[:-1] == sorted(names[:-1], key=str.lower)
        assert page.complaints == []
        assert [url for url in page.asked if not url.startswith("data:")] == [out.as_uri()]


@needs_chromium
def test_a_table_that_is_cut_off_says_so_until_its_end_is_seen(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    report(runs / "fine", out, "--split", "all")
    box = "document.querySelector('.scroll:has(#attribute-table)')"
    with browsing() as browser:
        page = browser.page(390)
        page.goto(out.as_uri())
        page.wait(f"{box}.classList.contains('cut')")
        assert page.find(f"{box}.previousElementSibling.innerText").startswith("More columns")
        page.find(f"{box}.scrollLeft = {box}.scrollWidth")
        page.wait(f"!{box}.classList.contains('cut')")
        # The name of the attribute is still to be seen.
        assert page.find(f"{box}.querySelector('tbody th').getBoundingClientRect().left") >= 0
        wide = browser.page(1280)
        wide.goto(out.as_uri())
        assert not wide.find(f"{box}.classList.contains('cut')")
        assert not wide.is_visible(".aside")


@needs_chromium
def test_nothing_is_cut_off_or_torn_from_its_caption_in_print(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    report(runs / "fine", out, "--split", "all")
    with browsing() as browser:
        page = browser.page(PAPER)
        page.call("Emulation.setEmulatedMedia", media="print")
        page.goto(out.as_uri())
        page.find("document.querySelectorAll('details').forEach(d => d.open = true)")
        widths = "[...document.querySelectorAll('{}')].map(e => e.scrollWidth)"
        assert (
            max(page.find(widths.format("main > :not(.many), .scroll:not(.many) table"))) <= PAPER
        )
        assert max([0, *page.find(widths.format(".many table"))]) <= LANDSCAPE
        assert not page.is_visible(".aside")

        def styles(selector: str, name: str) -> set[str]:
            found = f"[...document.querySelectorAll('{selector}')].map(e => getComputedStyle(e)"
            return set(page.find(f"{found}.getPropertyValue('{name}'))"))

        assert styles("caption, figcaption, h2, h3, summary", "break-after") == {"avoid"}
        assert styles("tr, figure, thead", "break-inside") == {"avoid"}
        # A heading with a box in it is not repeated on the next page; sticky cells hide lines.
        assert styles("thead button", "display") == {"contents"}
        assert styles("tbody th", "position") == {"static"}
        assert styles(".scroll", "overflow-x") == {"visible"}


def test_pictures_are_those_of_the_named_faces(runs: Path) -> None:
    """A thumbnail shows the face that its caption is about."""
    faces = parse_data_spec(f"celeba:{runs / 'faces'}").open()
    given = load_predictions(runs / "fine" / "predictions-all.npz").select([7], ("Smiling",))
    wrong = np.array([[0.99 if given.labels[0, 0] == 0 else 0.01]], np.float32)
    found = confident_mistakes(replace(given, probabilities=wrong), faces, None)
    (face,) = found["faces"]
    assert face["probability"] == pytest.approx(float(wrong[0, 0]))
    data = re.search(r"base64,([^\"]+)", str(face["image"]))
    assert data is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))), float)
    place = faces.names.index(given.names[0])
    with Image.open(faces.images[place]) as opened:
        wanted = np.asarray(opened.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR))
    assert np.abs(shown - wanted).mean() < 6
