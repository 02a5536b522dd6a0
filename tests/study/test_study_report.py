"""The report of a study, and the README's section, from results made up to known rules."""

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pages import Page, assert_stands_alone
from shared import refused, sspl
from sspl.domain.wording import in_words
from sspl.errors import DataError
from sspl.evaluation.paired import paired_summary
from sspl.evaluation.predictions import Predictions, load_predictions, save_predictions
from sspl.metrics.attributes import all_figures, means
from sspl.reporting.curves import curve_points, leading_methods
from sspl.reporting.differences import (
    Difference,
    read_differences,
    verdict_sentences,
    write_differences,
)
from sspl.reporting.pairwise import PairedComparison
from sspl.reporting.readme import BEGIN, END, results_section, split_at_markers
from sspl.reporting.result_table import Group, ResultRow, group_rows, read_results_csv
from sspl.reporting.study_report import bars_over
from sspl.study.cells import Cell, cell_folder
from sspl.study.results import FIGURE_COLUMNS, RESULT_COLUMNS

ATTRIBUTES = ("Male", "Young", "Smiling", "Bald", "Oval_Face", "Eyeglasses")
SKILL = {"scratch": 0.5, "sspl": 1.3, "prt": 0.5, "hog": 0.3}
"""How far the scores of yes and no are apart; sspl is better than scratch, prt is not."""


def made_up(method: str, labels: int, subset: int, faces: int = 300) -> Predictions:
    """Predictions of one cell: the same faces each time, scores as the method."""
    rng = np.random.default_rng(1)
    truth = (rng.random((faces, len(ATTRIBUTES))) < (0.4, 0.7, 0.5, 0.15, 0.3, 0.2)).astype(np.int8)
    noise = np.random.default_rng([subset, labels, len(method), ord(method[0])])
    skill = SKILL[method] * np.log10(labels)
    logits = skill * (2 * truth - 1) + noise.normal(0, 1.5, truth.shape)
    # On the last attribute nothing is learnt by anybody.
    logits[:, -1] = noise.normal(0, 1.5, faces)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    identity = tuple(str(i // 2) for i in range(faces))
    return Predictions(
        tuple(f"{i:06d}.jpg" for i in range(faces)),
        ATTRIBUTES,
        truth,
        probabilities,
        {"identity": identity},
    )


def write_study(folder: Path, cells: list[Cell]) -> None:
    """Write results.csv and the predictions of some cells as `sspl benchmark` does."""
    rows: list[list[Any]] = []
    for cell in cells:
        said = made_up(cell.method, cell.labels, cell.subset)
        save_predictions(cell_folder(folder, cell) / "predictions-test.npz", said)
        rates = np.full(len(ATTRIBUTES), 0.4)
        figures = means(all_figures(ATTRIBUTES, said.labels, said.probabilities, rates))
        shares = [round(figures[name] or 0, 6) for name in FIGURE_COLUMNS.values()]
        for split in ("val", "test"):
            shown = shares if split == "test" else [0.5] * len(shares)
            rows.append(
                [
                    cell.method,
                    cell.protocol,
                    "toy",
                    cell.labels,
                    cell.subset,
                    0,
                    split,
                    *shown,
                    12.5,
                    "abc",
                    "c0de",
                    "here",
                ]
            )
    with (folder / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([RESULT_COLUMNS, *rows])


CELLS = [
    *(
        Cell(method, "finetune", labels, subset)
        for method in ("scratch", "sspl", "prt")
        for labels in (10, 100)
        for subset in (0, 1)
    ),
    *(Cell(method, "linear", 100, 0) for method in ("hog", "sspl")),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "toy-study"
    folder.mkdir()
    write_study(folder, CELLS)
    return folder


@pytest.fixture(scope="module")
def text(study: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "study.html"
    sspl("report", study, "--out", out, "--resamples", 200)
    return out.read_text(encoding="utf-8")


def rows_after(page: Page, first: str, last: str) -> list[list[dict[str, str]]]:
    """Rows of the table whose heading begins and ends so."""
    start = next(
        i for i, row in enumerate(page.rows) if (row[0]["text"], row[-1]["text"]) == (first, last)
    )
    rows = []
    for row in page.rows[start + 1 :]:
        if all("col" in cell.get("scope", "") for cell in row):
            break
        rows.append(row)
    return rows


def test_every_cell_is_listed_as_in_the_table(study: Path, text: str) -> None:
    page = assert_stands_alone(text)
    with (study / "results.csv").open() as file:
        wanted = [row for row in csv.DictReader(file) if row["split"] == "test"]
    shown = rows_after(page, "Method", "training, s")
    assert len(shown) == len(wanted) == 14
    found = {
        (*(float(c["data-value"]) for c in row[2:4]), row[0]["text"], row[1]["text"]): row
        for row in shown
    }
    titles = {"finetune": "Fine-tuning", "linear": "Linear probe"}
    for row in wanted:
        key = (float(row["labels"]), float(row["subset"]), row["method"], titles[row["protocol"]])
        figures = [float(c["data-value"]) for c in found[key][5:12]]
        order = (
            "accuracy",
            "balanced_accuracy",
            "average_precision",
            "auc",
            "f1",
            "ece",
            "majority_accuracy",
        )
        assert figures == [float(row[name]) for name in order]
    assert not [t for t, _ in page.tags if t == "img"]
    assert ".jpg" not in text
    assert str(study.parent) not in text


def test_curves_and_tables_are_means_over_subsets(study: Path, text: str) -> None:
    page = assert_stands_alone(text)
    groups = {
        (g.method, g.protocol, g.labels): g
        for g in group_rows(read_results_csv(study / "results.csv"))
    }
    first = rows_after(page, "Method", "100")
    assert [row[0]["text"] for row in first] == ["sspl", "scratch", "prt", "majority"]
    for row in first[:3]:
        for cell, labels in zip(row[1:], (10, 100), strict=True):
            group = groups[row[0]["text"], "finetune", labels]
            values = [r.figures["accuracy"] for r in group.rows]
            assert len(values) == 2
            assert float(cell["data-value"]) == pytest.approx(np.mean(values))
            deviation = abs(values[0] - values[1]) / np.sqrt(2)
            assert f"{100 * np.mean(values):.2f} +- {100 * deviation:.2f}" == group.text("accuracy")
    # Three charts of three lines each; the probe has one label count and none.
    assert text.count('<polyline class="series s2" points=') == 3 * 2


def test_paired_differences_are_those_of_the_predictions(study: Path, text: str) -> None:
    page = assert_stands_alone(text)
    sides = [
        [
            load_predictions(
                cell_folder(study, Cell(m, "finetune", 10, s)) / "predictions-test.npz"
            )
            for s in (0, 1)
        ]
        for m in ("sspl", "scratch")
    ]
    summary = paired_summary(sides[0], sides[1], "x", 200)
    rows = rows_after(page, "Against", "Attributes")
    (row,) = (
        r
        for r in rows
        if (r[0]["text"], r[2]["text"], r[1]["text"][:4]) == ("scratch", "10", "Fine")
    )
    written = {
        r.figure: r
        for r in read_differences(study / "differences.csv")
        if (r.a, r.b, r.protocol, r.labels) == ("sspl", "scratch", "finetune", 10)
    }
    for cell, name in zip(
        row[4:7], ("accuracy", "balanced_accuracy", "average_precision"), strict=True
    ):
        found = summary["mean"][name]
        assert float(cell["data-value"]) == pytest.approx(found["difference"])
        assert found["better"] == written[name].better == "a"
        bounds = (written[name].low, written[name].high)
        assert bounds == pytest.approx(found["interval"], abs=1e-6)
        assert cell["text"].endswith("better")
    # The probe of hog, which is never fine-tuned, meets fine-tuned methods.
    assert "Fine-tuning, accuracy: Better than scratch, prt, hog." in page.text
    assert "Linear probe, accuracy: Better than hog." in page.text
    assert "200 resamples of 150 test people, and of the label subsets" in page.text


def test_the_table_of_verdicts_says_what_the_list_says(study: Path, text: str) -> None:
    page = assert_stands_alone(text)
    matrix = {row[0]["text"]: row[1:] for row in rows_after(page, "Against", "100")}
    assert list(matrix) == ["scratch", "prt", "hog"]
    assert matrix["hog"][0]["text"] == "-"
    written = {
        (r.b, r.labels): r
        for r in read_differences(study / "differences.csv")
        if (r.protocol, r.figure) == ("finetune", "accuracy")
    }
    for other, cells in matrix.items():
        for cell, labels in zip(cells, (10, 100), strict=True):
            if (other, labels) == ("hog", 10):
                continue
            row = written[other, labels]
            wanted = row.value_a - row.value_b
            assert float(cell["data-value"]) == pytest.approx(wanted, abs=2e-6)
    # The probe has one label count: its columns are the figures.
    (hog,) = rows_after(page, "Against", "average precision")
    assert len(hog) == 4


def test_gains_over_the_second_method_are_turned_round() -> None:
    def comparison(
        other: str, difference: float, low: float, high: float, better: str | None
    ) -> PairedComparison:
        found = {"difference": difference, "interval": (low, high), "better": better}
        return PairedComparison(
            "scratch", other, "finetune", 10, (0,), {"mean": {"accuracy": found}}
        )

    bars = bars_over(
        [comparison("prt", -0.01, -0.03, 0.01, None), comparison("sspl", -0.04, -0.05, -0.03, "b")],
        "accuracy",
    )
    assert [(bar.label, bar.clear) for bar in bars] == [("sspl", True), ("prt", False)]
    assert bars[0].value == pytest.approx(4)
    assert bars[0].bounds == pytest.approx((3, 5))
    assert bars[1].bounds == pytest.approx((-1, 3))


def test_every_method_is_set_against_the_second(text: str) -> None:
    page = assert_stands_alone(text)
    assert "Every method against scratch" in page.text
    part = text[text.index('id="over"') : text.index('id="gains"')]
    # Three figures, each with a bar for sspl and one for prt; no probe of scratch was run.
    assert part.count("<figure>") == 3
    assert re.findall(r'text-anchor="end">([a-z]+)<', part) == ["sspl", "prt"] * 3


def test_leading_methods_are_the_pair_the_longest_curves_and_the_best() -> None:
    def group(method: str, labels: int, accuracy: float) -> Group:
        figures = dict.fromkeys(FIGURE_COLUMNS, accuracy)
        row = ResultRow(method, "finetune", "toy", labels, 0, 0, "test", dict(figures), 1.0)
        return Group(method, "finetune", "toy", labels, (row,))

    names = ["sspl", "scratch", *(f"m{i}" for i in range(8))]
    groups = [group(name, 10, 0.5 + 0.01 * i) for i, name in enumerate(names)]
    groups += [group("m0", 100, 0.1)]
    assert leading_methods(groups, names, ("sspl", "scratch")) == [
        "sspl",
        "scratch",
        "m0",
        "m5",
        "m6",
        "m7",
    ]


def test_what_is_no_difference_is_not_called_one(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    study = Path(shutil.copytree(study, tmp_path / "study"))
    sspl("report", study, "--out", out, "--resamples", 200, "--pair", "prt", "scratch")
    page = assert_stands_alone(out.read_text())
    assert "Where prt is better, and where it is not" in page.text
    (row,) = (
        r
        for r in rows_after(page, "Against", "Attributes")
        if (r[0]["text"], r[2]["text"]) == ("scratch", "10")
    )
    assert "better" not in row[4]["text"]
    said = r"Fine-tuning, accuracy: (Better than hog\. )?Worse than sspl\. No difference"
    assert re.search(said, page.text)
    assert refused("report", study, "--out", out, "--pair", "prt", "x") == (
        "--pair x: no such method; use sspl, scratch, prt, hog."
    )
    assert "two different" in refused("report", study, "--out", out, "--pair", "prt", "prt")


def test_confident_mistakes_of_both_methods(study: Path, text: str) -> None:
    page = assert_stands_alone(text)
    assert "they are personal data" in page.text
    # The first table of the page is that of sspl, the first of the pair.
    rows = rows_after(page, "Attribute", "Wrong, %")
    file = cell_folder(study, Cell("sspl", "finetune", 10, 0)) / "predictions-test.npz"
    given = load_predictions(file)
    wanted = {}
    for i, name in enumerate(given.attributes):
        said, label = given.probabilities[:, i], given.labels[:, i]
        confident = np.maximum(said, 1 - said) >= 0.9
        wrong = confident & (label != np.round(said))
        wanted[in_words(name)] = (confident.sum(), wrong.sum())
    shown = {r[0]["text"]: tuple(float(c["data-value"]) for c in r[1:3]) for r in rows}
    assert shown == wanted
    assert sum(wrong for _, wrong in wanted.values()) > 10


def test_faces_of_a_study_are_shown_when_asked_for(study: Path, tmp_path: Path) -> None:
    faces, out = tmp_path / "faces", tmp_path / "page.html"
    study = Path(shutil.copytree(study, tmp_path / "study"))
    faces.mkdir()
    for i in range(300):
        Image.new("RGB", (16, 16), (i % 256, 40, 90)).save(faces / f"{i:06d}.jpg")
    assert refused("report", study, "--out", out, "--faces").endswith(
        "study has no study.yaml; give --data."
    )
    sspl("report", study, "--out", out, "--resamples", 100, "--faces", "--data", f"folder:{faces}")
    page = assert_stands_alone(out.read_text())
    assert "This page shows faces of people." in page.text
    # At most two of each of six attributes, for each of two methods.
    assert 12 < len([t for t, _ in page.tags if t == "img"]) <= 24
    (study / "study.yaml").write_text("data: folder:${FACES_OF_THE_STUDY}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_OF_THE_STUDY", str(faces))
        sspl("report", study, "--out", tmp_path / "b.html", "--resamples", 100, "--faces")
    again = assert_stands_alone((tmp_path / "b.html").read_text())
    images = [[a["src"] for t, a in each.tags if t == "img"] for each in (page, again)]
    assert images[0] == images[1]


def difference(other: str, labels: int, better: str) -> Difference:
    return Difference(
        "finetune", "sspl", other, labels, 3, "accuracy", 0.9, 0.8, 0.05, 0.15, better
    )


def test_sentences_by_hand() -> None:
    verdicts = [("a", 27), ("a", 55), ("", 275), ("a", 1099), ("b", 5495)]
    rows = [difference("scratch", labels, better) for better, labels in verdicts]
    rows += [difference("prt", 55, "a"), difference("prt", 275, "a"), difference("pst", 275, "")]
    assert verdict_sentences(rows) == [
        "Fine-tuning, accuracy: Better than prt, scratch (27, 55 and 1,099). "
        "Worse than scratch (5,495). No difference shown to pst, scratch (275)."
    ]


def test_differences_are_read_as_written(study: Path, text: str, tmp_path: Path) -> None:
    rows = [difference("prt", 55, "a"), difference("scratch", 27, "")]
    write_differences(tmp_path / "d.csv", rows)
    assert read_differences(tmp_path / "d.csv") == rows
    found = read_differences(study / "differences.csv")
    assert {row.a for row in found} == {"sspl"}
    (tmp_path / "d.csv").write_text((tmp_path / "d.csv").read_text().replace("55", "many"))
    with pytest.raises(DataError, match="line 2: 'labels' is 'many'"):
        read_differences(tmp_path / "d.csv")


README = f"""# Title

{BEGIN}
old
{END}

## More
"""


def test_readme_section_is_written_between_its_markers(study: Path, tmp_path: Path) -> None:
    readme, table = tmp_path / "README.md", tmp_path / "toy.csv"
    readme.write_text(README)
    table.write_text((study / "results.csv").read_text())
    assert "written" in sspl("results", readme, "--from", table).output
    text = readme.read_text()
    assert text.startswith("# Title\n\n<!-- results: begin -->\n\n`toy`: test faces")
    assert text.endswith("<!-- results: end -->\n\n## More\n")
    assert "old" not in text
    assert "wins" not in text
    for group in group_rows(read_results_csv(table)):
        if group.labels == 10:
            assert f"| {group.method} | {group.text('accuracy')} | " in text
    assert "| Linear probe, 100 labels | accuracy | balanced accuracy | average precision |" in text
    probe = next(g for g in group_rows(read_results_csv(table)) if g.method == "hog")
    figures = ("accuracy", "balanced_accuracy", "average_precision")
    assert f"| hog | {' | '.join(probe.text(name) for name in figures)} |" in text
    assert "nothing to change" in sspl("results", readme, "--from", table).output
    write_differences(tmp_path / "toy-differences.csv", [difference("prt", 55, "a")])
    sspl("results", readme, "--from", table)
    assert "- Fine-tuning, accuracy: Better than prt.\n" in readme.read_text()


def test_a_brief_section_keeps_to_fine_tuning(study: Path, tmp_path: Path) -> None:
    readme, table = tmp_path / "README.md", tmp_path / "toy.csv"
    readme.write_text(README)
    table.write_text((study / "results.csv").read_text())
    rows = [
        difference("prt", 55, "a"),
        replace(difference("prt", 55, "b"), protocol="linear"),
        replace(difference("prt", 55, "b"), figure="balanced_accuracy"),
    ]
    write_differences(tmp_path / "toy-differences.csv", rows)
    sspl("results", readme, "--from", table, "--brief")
    brief = readme.read_text()
    groups = [g for g in group_rows(read_results_csv(table)) if g.protocol == "finetune"]
    heads = [f"{figure}, {c}" for figure in ("accuracy", "average precision") for c in (10, 100)]
    assert f"\n| Fine-tuning | {' | '.join(heads)} |\n" in brief
    for method in ("scratch", "sspl"):
        mine = sorted((g for g in groups if g.method == method), key=lambda g: g.labels)
        cells = [g.text(figure) for figure in ("accuracy", "average_precision") for g in mine]
        assert f"| {method} | {' | '.join(cells)} |\n" in brief
    assert brief.count("\n| --- ") == 1
    assert re.findall("^- .*", brief, re.M) == ["- Fine-tuning, accuracy: Better than prt."]
    sspl("results", readme, "--from", table, "--brief", "--method", "scratch", "--method", "sspl")
    chosen = readme.read_text()
    assert re.findall(r"^\| (\w+) \|", chosen, re.M) == ["sspl", "scratch"]
    assert "prt" not in chosen
    sentence = refused("results", readme, "--from", table, "--method", "nobody")
    assert sentence.endswith("toy.csv: holds no cells of the method 'nobody'.")
    assert readme.read_text() == chosen
    sspl("results", readme, "--from", table, "--from", table)
    whole = readme.read_text()
    assert whole.count("| Fine-tuning: balanced accuracy |") == 2
    assert whole.count("| Linear probe, 100 labels | accuracy |") == 2
    probes = tmp_path / "probes.csv"
    lines = table.read_text().splitlines(keepends=True)
    probes.write_text(lines[0] + "".join(line for line in lines if ",linear," in line))
    sentence = refused("results", readme, "--from", probes, "--brief")
    assert sentence.endswith("probes.csv: holds no cells of the protocol 'finetune'.")
    assert readme.read_text() == whole


def test_the_picture_has_a_line_for_each_method(study: Path, tmp_path: Path) -> None:
    groups = group_rows(read_results_csv(study / "results.csv"))
    points, spreads = curve_points([g for g in groups if g.protocol == "finetune"], "sspl", "auc")
    assert [x for x, _ in points] == [10, 100]
    values = [
        r.figures["auc"] or 0
        for g in groups
        for r in g.rows
        if (g.method, g.labels, g.protocol) == ("sspl", 100, "finetune")
    ]
    assert points[1][1] == pytest.approx(100 * np.mean(values))
    assert spreads[1] == pytest.approx(100 * np.std(values, ddof=1))
    readme, out = tmp_path / "README.md", tmp_path / "study.png"
    readme.write_text(README)
    sspl("results", readme, "--from", study / "results.csv", "--picture", out)
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for colour in ((0x0B, 0x62, 0xA8), (0xB3, 0x47, 0x0F), (0x0D, 0x7A, 0x50)):
        assert (pixels == colour).all(2).sum() > 300
    # Three methods: none is left for the background.
    assert (pixels == (0x8B, 0x2F, 0x92)).all(2).sum() == 0


def test_readme_without_markers_is_left_alone(study: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    for text in ("# Title\n", f"{END}\n{BEGIN}\n", README + BEGIN):
        readme.write_text(text)
        assert "mark the place" in refused("results", readme, "--from", study / "results.csv")
        assert readme.read_text() == text


RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "celeba10k.csv"


def test_the_readme_says_what_the_committed_results_say() -> None:
    if not RESULTS.is_file():
        pytest.skip("no results of the study are committed")
    readme = RESULTS.parents[2] / "README.md"
    _, section, _ = split_at_markers(readme, readme.read_text(encoding="utf-8"))
    chosen = ["sspl", "splnet", "scratch", "pst+pct", "pct", "pst", "prt", "colourise", "simclr"]
    assert section == f"\n{results_section([RESULTS], brief=True, methods=chosen)}", (
        "run: sspl results README.md --brief --from benchmarks/results/celeba10k.csv "
        + " ".join(f"--method {name}" for name in chosen)
    )
    assert section.count("\n| ") <= 12, "ten rows, a head and its rule"


def test_the_page_of_results_says_what_the_committed_results_say() -> None:
    if not RESULTS.is_file():
        pytest.skip("no results of the study are committed")
    page = RESULTS.parents[2] / "docs" / "results.md"
    tables = [RESULTS.with_name(f"{name}.csv") for name in ("celeba10k", "lfw", "utkface")]
    _, section, _ = split_at_markers(page, page.read_text(encoding="utf-8"))
    assert section == f"\n{results_section([t for t in tables if t.is_file()])}"


def test_the_page_of_the_weights_says_what_the_committed_results_say() -> None:
    names = ("builtin", "builtin-lfw", "builtin-utkface")
    tables = [t for name in names if (t := RESULTS.with_name(f"{name}.csv")).is_file()]
    if not tables:
        pytest.skip("no results of the study builtin are committed")
    page = RESULTS.parents[2] / "docs" / "weights.md"
    _, section, _ = split_at_markers(page, page.read_text(encoding="utf-8"))
    assert section == f"\n{results_section(tables)}", (
        "run: sspl results docs/weights.md "
        + " ".join(f"--from benchmarks/results/{table.name}" for table in tables)
    )


def test_published_figures_are_marked_as_cited(text: str) -> None:
    page = assert_stands_alone(text)
    celeba = rows_after(page, "Method", "100 %")
    figures = {row[0]["text"]: [c["text"] for c in row[1:]] for row in celeba}
    assert figures["SSPL"] == ["86.67", "88.05", "88.84", "89.58", "91.77"]
    assert figures["FaRL"][-1] == "91.39"
    assert "Claimed, figures not read by us: ProS (WACV 2024, arXiv:2311.01929), DESP" in page.text
    part = text[text.index('class="published"') : text.index('id="cells"')]
    # 50 figures, of which four could be checked.
    assert part.count("<small>as cited</small>") == 46
    assert part.count("<small>checked</small>") == 4


def test_groups_noise_and_commands_are_in_the_page(text: str) -> None:
    page = assert_stands_alone(text)
    assert "By Male" in page.text
    assert "By Young" in page.text
    assert "Oval face: labelled with essentially random consistency" in page.text
    command = "sspl benchmark --config toy-study/study.yaml --out again --only sspl --labels 100"
    assert page.text.count(command) == 1
    assert "sspl, 10 labels, subset 0" in page.text


def test_means_alone_are_not_called_a_win(study: Path, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text((study / "results.csv").read_text())
    sspl("report", tmp_path, "--out", tmp_path / "page.html")
    page = assert_stands_alone((tmp_path / "page.html").read_text())
    assert "nothing can be said" in page.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("accuracy,", "acc,", 1), "line 1: no column 'accuracy'"),
        (lambda t: re.sub(r"test,0\.\d+", "test,x", t, count=1), "line 3: 'accuracy' is 'x'"),
        (lambda t: re.sub(r"test,0\.\d+", "test,87.1", t, count=1), "'accuracy' is 87.1; give"),
        (lambda t: t.replace(",toy,10,", ",toy,ten,", 2), "'labels' is 'ten', no whole number"),
        (lambda t: t.replace("finetune", "tune"), "line 3: unknown protocol 'tune'"),
        (lambda t: t + t.splitlines()[2] + "\n", "line 30: this cell was given before"),
        (lambda t: t.replace(",test,", ",val,"), "no row of the split 'test'"),
    ],
)
def test_wrong_tables_are_refused(study: Path, tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(change((study / "results.csv").read_text()))
    with pytest.raises(DataError) as error:
        read_results_csv(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
