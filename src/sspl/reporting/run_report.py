"""The report of one run: what it is, how it learnt, how good it is and for whom."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.domain.wording import in_words
from sspl.errors import DataError
from sspl.evaluation.decided import decided_mean
from sspl.evaluation.predictions import load_predictions, predictions_file
from sspl.evaluation.statistics import RESAMPLED, drawn_text
from sspl.evaluation.subgroups import is_clear
from sspl.inference.card import CONTESTED, FEW, RESPONSIBLE, extractor_lines
from sspl.io.files import read_object
from sspl.io.progress import counted
from sspl.io.run_files import METRICS_CSV, RUN_FILE, SETTINGS_FILE, read_metrics
from sspl.io.tensorboard import read_rows
from sspl.metrics.attributes import remarks
from sspl.reporting.charts import Bar, Series, bar_chart, line_chart, reliability_chart
from sspl.reporting.mistakes import confident_mistakes
from sspl.reporting.notes import label_noise, notes
from sspl.reporting.page import percent, render
from sspl.reporting.pretext import pretext_pictures
from sspl.settings import read_settings
from sspl.training.selection import LAST
from sspl.weights import BUILT_IN

KINDS: Final = {
    "finetune": "Fine-tuned model",
    "probe": "Heads on frozen features",
    "pretrain": "Pre-training without labels",
    "parser": "Face parser",
}
LABELLED: Final = ("finetune", "probe")
"""Kinds of run that learn from labelled faces."""

MOST_BARS: Final = 14


def run_report(
    run: Path, split: str = "test", faces: FaceSet | None = None, box: Box | None = None
) -> str:
    """Return the HTML page of one run.

    Args:
        run: its folder.
        split: which of its evaluations to show.
        faces: the faces of the evaluation, to show some of them with confident mistakes; for a
            run of stage 1 any, to show the tasks on them. Without them no real face is in the page.
        box: part of each picture to show.

    Raises `DataError` when the folder holds no run.
    """
    about = read_object(run / RUN_FILE)
    if not about:
        raise DataError(f"{run}: no run folder ({RUN_FILE} is not there).")
    kind = about["kind"]
    settings = read_settings(run / SETTINGS_FILE)
    metrics = read_metrics(run)
    found = read_object(run / f"evaluation-{split}.json") if kind in LABELLED else {}
    content = _evaluation_content(found, split) if found else {"groupings": [], "calibration": ""}
    mistakes = {}
    if found and predictions_file(run, split).is_file():
        predictions = load_predictions(predictions_file(run, split))
        mistakes = confident_mistakes(predictions, faces, box)
    pretext = pretext_pictures(run, faces, box) if kind == "pretrain" else {}
    curves = _curves(run, kind, metrics)
    attributes = tuple(found.get("attributes", {}))
    sections = {
        "what": "What it is",
        "curves": "Training" if curves else "",
        "tasks": "The tasks" if pretext else "",
        "classes": "Every class" if metrics.get("iou") else "",
        "attributes": "Every attribute" if found else "",
        "decisions": "Its own decisions" if content.get("decisions") else "",
        "calibration": "Calibration" if content["calibration"] else "",
        "groups": "Groups" if "subgroups" in found else "",
        "mistakes": "Mistakes" if mistakes else "",
        "use": "Responsible use",
        "again": "Make it again",
    }
    return render(
        "run.html",
        title=f"{KINDS.get(kind, kind)}: {run.resolve().name}",
        lead=_lead(kind, settings, metrics, found),
        kind=kind,
        split=split,
        sections=[(id_, name) for id_, name in sections.items() if name],
        overview=_overview(about, settings, metrics, found),
        settings=yaml.safe_dump(without_folders(settings), sort_keys=False, allow_unicode=True),
        transfer=metrics.get("transfer", ""),
        curves=curves,
        classes=metrics.get("iou", {}),
        found=found,
        noise=label_noise(attributes),
        noise_note=notes("label_noise")["general"],
        mistakes=mistakes,
        pretext=pretext,
        faces_shown=bool(mistakes.get("faces") or pretext.get("real")),
        responsible=RESPONSIBLE,
        contested={name: CONTESTED[name] for name in attributes if name in CONTESTED},
        commands=_commands(run, kind, split, settings),
        **content,
    )


def without_folders(content: Any) -> Any:
    """Return settings with every absolute path cut down to its last part."""
    if isinstance(content, dict):
        return {key: without_folders(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_folders(value) for value in content]
    if isinstance(content, str) and content.startswith("/"):
        return f".../{Path(content).name}"
    return content


def _lead(
    kind: str, settings: Mapping[str, Any], metrics: Mapping[str, Any], found: Mapping[str, Any]
) -> str:
    if kind in LABELLED:
        text = f"{len(found.get('attributes', {})) or 'Some'} attributes of a face"
        if "labelled" in metrics:
            text += f", learnt from {metrics['labelled']:,} labelled faces"
        if kind == "probe":
            return text + ", as linear heads on features of frozen networks."
        start = settings.get("pretrained")
        return text + (", after pre-training." if start else ", without pre-training.")
    if kind == "pretrain":
        return f"Stage 1 with the tasks {', '.join(settings['tasks'])}; no label is used."
    return "A network that says of every pixel what part of a face it is."


def _overview(
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    found: Mapping[str, Any],
) -> list[tuple[str, str]]:
    overview = [("Started", _moment(about["started"])), ("Seed", str(about["seed"]))]
    if settings.get("data"):
        overview.append(("Data", _data_text(settings)))
    if about["kind"] in LABELLED:
        overview += _stage_two_overview(settings, metrics, found)
    if "tasks" in settings:
        overview.append(("Tasks", ", ".join(Path(task).name for task in settings["tasks"])))
    if "architecture" in settings:
        backbone = settings["backbone"]
        network = backbone["timm"] or f"ResNet-{backbone['depth']}, width {backbone['width']:g}"
        overview.append(("Network", f"{settings['architecture']}: {network}"))
        overview.append(("Input", f"{settings['input_size']} px of {settings['canvas']} px"))
    if "optim" in settings:
        optim = settings["optim"]
        overview.append(
            (
                "Training",
                f"{optim['epochs']} epochs, batch {optim['batch_size']}, "
                f"{optim['name']}, rate {optim['lr']:g}",
            )
        )
    overview.append(
        (
            "Finished",
            "yes" if metrics.get("finished", True) else "no: still running, or interrupted",
        )
    )
    overview.append(("Versions", ", ".join(f"{k} {v}" for k, v in about["versions"].items())))
    overview.append(("Machine", str(about.get("platform", "not recorded"))))
    return overview


def _moment(written: str) -> str:
    """Return a time as people write it; what is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(written):%Y-%m-%d %H:%M} {UTC}"
    except ValueError:
        return written


def _stage_two_overview(
    settings: Mapping[str, Any], metrics: Mapping[str, Any], found: Mapping[str, Any]
) -> list[tuple[str, str]]:
    labels, best = settings["labels"], metrics.get("best", {})
    rule = "every k-th face" if labels["rule"] == "every_kth" else "a random subset, seed "
    rule += "" if labels["rule"] == "every_kth" else str(labels["subset_seed"])
    overview = [
        ("Labelled faces", f"{_many(metrics.get('labelled'))} ({rule})"),
        ("Validation faces", _validation_text(settings, metrics)),
    ]
    if "head" in settings:
        overview.append(("Started from", _start_text(settings)))
        overview.append(("Pooling", str(settings["head"]["pooling"])))
    if metrics.get("taught"):
        overview.append(("Taught by", metrics["taught"]))
    overview += [("Reads", line) for line in extractor_lines(metrics.get("extractors", ()))]
    if metrics.get("kept"):
        overview.append(("Kept", metrics["kept"]))
    elif "epoch" in best:
        overview.append(("Kept", f"epoch {best['epoch']} of {settings['optim']['epochs']}"))
    said = remarks(_in_words(metrics), len(metrics.get("label_counts", {})), "validation faces")
    overview += [("Mind", line) for line in said]
    if found:
        mirrored = ", each averaged with its mirror image" if found.get("flip_average") else ""
        overview.append(("Judged on", f"{counted(found['faces'], 'face')}{mirrored}"))
    return overview


def _validation_text(settings: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    by = metrics.get("selected_by", settings["select_by"])
    purpose = "the last epoch is kept" if by == LAST else f"to choose the epoch by {in_words(by)}"
    return f"{_many(metrics.get('validation'))}, {purpose}"


def _many(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _start_text(settings: Mapping[str, Any]) -> str:
    if not settings.get("pretrained"):
        return "random weights"
    if settings["pretrained"] == BUILT_IN:
        return "the weights in the package, learnt from drawn faces"
    folder = Path(settings["pretrained"])
    stage = read_settings(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
    if stage and "tasks" not in stage:
        return f"the fine-tuned model in .../{folder.name}"
    tasks = f" ({', '.join(Path(t).name for t in stage['tasks'])})" if stage else ""
    return f"stage 1 in .../{folder.name}{tasks}"


def _data_text(settings: Mapping[str, Any]) -> str:
    data = settings["data"]
    sources = data if isinstance(data, list) else [data]
    texts = [f"{s['format']} in .../{Path(s['root']).name}, crop {s['crop']}" for s in sources]
    return "; ".join(texts)


def _curves(run: Path, kind: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = read_rows(run) if kind != "probe" and (run / METRICS_CSV).is_file() else []
    if not rows:
        return []
    step = next(iter(rows[0]))
    columns = {
        name: [(float(row[step]), float(row[name])) for row in rows if row.get(name)]
        for name in rows[0]
        if name not in (step, "lr")
    }
    columns = {name: points for name, points in columns.items() if points}
    plots: list[tuple[str, dict[str, str], float]] = []
    if kind == "finetune":
        plots.append(("Loss", {n: in_words(n) for n in columns if n.endswith("loss")}, 1))
        shown = ("accuracy", "majority_accuracy", "balanced_accuracy", "average_precision")
        plots.append(("Validation faces, %", {f"val/{n}": in_words(n) for n in shown}, 100))
    else:
        losses = {n: n.removesuffix("/loss") for n in columns if n.endswith("loss")}
        losses = {n: "all together" if n == "loss" else name for n, name in losses.items()}
        rest = {n: in_words(n.replace("/", " ")) for n in columns if not n.endswith("loss")}
        plots += [("Losses", losses, 1), ("Figures of the training batches, %", rest, 100)]
    best = metrics.get("best", {}).get("epoch")
    note = f"The weights of epoch {best} were kept." if best else ""
    return [
        {
            "title": title,
            "note": note,
            "chart": line_chart(
                [
                    Series(label, [(x, y * scale) for x, y in columns[name]])
                    for name, label in names.items()
                    if name in columns
                ],
                f"{title} by {step}",
                step,
                title,
            ),
        }
        for title, names, scale in plots
        if any(name in columns for name in names)
    ]


def _evaluation_content(found: Mapping[str, Any], split: str) -> dict[str, Any]:
    intervals = found.get("intervals", {})
    none = dict.fromkeys(RESAMPLED)
    apart = not_judged(found)
    rows = [
        {"name": name, "total": False, "bounds": intervals.get("attributes", {}).get(name, none)}
        | figures
        for name, figures in found["attributes"].items()
    ]
    mean = {"name": "mean", "total": True, "bounds": intervals.get("mean", none)}
    rows.append(mean | {"positives": "", "negatives": ""} | found["mean"])
    bins = reliability_points(found.get("calibration", []))
    return {
        "rows": [row for row in rows if row["name"] not in apart],
        "apart": [row | {"why": apart[row["name"]]} for row in rows if row["name"] in apart],
        "drawn": drawn_text(intervals) if intervals else "",
        "tiles": _tiles(found, intervals.get("mean", none)),
        "sentences": _sentences(found),
        "calibration": reliability_chart(bins, "Reliability diagram of all attributes together")
        if bins
        else "",
        "groupings": [grouping_content(way) for way in found.get("subgroups", [])],
        "decisions": _decisions(found.get("decisions", {})),
        "unsure": decided_mean(found.get("decisions", {}))["unsure"],
    }


def not_judged(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes that no mean of an evaluation holds, each with the reason."""
    one_kind = {
        name: f"no {'negative' if row['positives'] else 'positive'} among the faces judged"
        for name, row in found["attributes"].items()
        if not (row["positives"] and row["negatives"])
    }
    left_out: dict[str, str] = found.get("left_out", {})
    return one_kind | left_out


def _decisions(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table of the model's own thresholds, their means last."""
    if not found:
        return []
    rows = [{"name": name, "total": False} | row for name, row in found.items()]
    mean = {"name": "mean", "total": True, "threshold": None, "band": None}
    return [*rows, mean | decided_mean(found)]


def reliability_points(bins: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, int]]:
    """Return predicted and observed shares in percent, and how often, in bins with cases."""
    return [(100 * b["probability"], 100 * b["frequency"], b["cases"]) for b in bins if b["cases"]]


def _tiles(found: Mapping[str, Any], bounds: Mapping[str, Any]) -> list[dict[str, Any]]:
    mean, apart = found["mean"], not_judged(found)
    judged = [row for name, row in found["attributes"].items() if name not in apart]
    yes = [row["positives"] / (row["positives"] + row["negatives"]) for row in judged]
    shown = {
        "accuracy": ("Mean accuracy", "the commoner answer", mean["majority_accuracy"]),
        "balanced_accuracy": ("Balanced accuracy", "chance", 0.5),
        "average_precision": ("Average precision", "chance", sum(yes) / len(yes) if yes else None),
    }
    tiles = [
        {
            "name": title,
            "value": mean[name],
            "interval": bounds.get(name),
            "note": better_than(least, what, mean[name], bounds.get(name)),
        }
        for name, (title, what, least) in shown.items()
    ]
    error = {"name": "Calibration error", "value": mean["calibration_error"], "interval": None}
    return [*tiles, error | {"note": "0 is best"}]


def better_than(
    least: float | None, what: str, value: float | None, bounds: Sequence[float] | None
) -> str:
    """Say whether a share is shown to be above another, by its whole interval where there is one.

    Examples:
        >>> better_than(0.5, "chance", 0.6, (0.55, 0.65))
        'better than chance (50.0 %)'
        >>> better_than(0.5, "chance", 0.6, (0.45, 0.75))
        'not shown to be better than chance (50.0 %)'
    """
    if value is None or least is None:
        return ""
    low = bounds[0] if bounds else value
    said = "better" if low > least else "not shown to be better" if value > least else "no better"
    return f"{said} than {what} ({percent(least)} %)"


def _sentences(found: Mapping[str, Any]) -> list[str]:
    apart = not_judged(found)
    rows = {n: row for n, row in found["attributes"].items() if n not in apart}
    bounds = found.get("intervals", {}).get("attributes", {})
    least = {n: (bounds.get(n, {}).get("accuracy") or (r["accuracy"],))[0] for n, r in rows.items()}
    shown = [n for n, r in rows.items() if least[n] > r["majority_accuracy"]]
    open_ones = [n for n, r in rows.items() if r["accuracy"] > r["majority_accuracy"] >= least[n]]
    useless = [n for n in rows if n not in (*shown, *open_ones)]
    few = [n for n, r in rows.items() if min(r["positives"], r["negatives"]) < FEW]
    lines = [
        f"On {len(shown) or 'none'} of {counted(len(rows), 'attribute')} its decisions are right "
        "more often than always giving the commoner answer"
        + (", by the whole interval" if bounds else "")
        + (f": {_named(shown)}." if shown else ".")
    ]
    if open_ones:
        lines.append(
            f"Not shown, since the interval reaches the commoner answer, on: {_named(open_ones)}."
        )
    if useless:
        lines.append(f"Not so on: {_named(useless)}.")
    if few:
        lines.append(
            f"Fewer than {FEW} test faces of one kind, so that figures mean little: {_named(few)}."
        )
    lines += remarks(_in_words(found), len(found["attributes"]), "faces judged")
    for way in found.get("subgroups", []):
        gaps = [content["gaps"]["balanced_accuracy"] for content in way["attributes"].values()]
        compared = [gap for gap in gaps if gap]
        clear = sum(is_clear(gap) for gap in compared)
        if compared:
            lines.append(
                f"Balanced accuracy differs between groups by {in_words(way['by'])} on "
                f"{clear or 'none'} of {counted(len(compared), 'attribute')}, beyond what the "
                "test faces leave to chance."
            )
    return lines


def _in_words(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `remarks` speaks of, with the attributes in words."""
    return {
        "left_out": {in_words(name): why for name, why in summary.get("left_out", {}).items()},
        "one_answer": [in_words(name) for name in summary.get("one_answer", ())],
    }


def _named(names: Sequence[str]) -> str:
    return ", ".join(in_words(name) for name in names)


def grouping_content(way: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one grouping with a chart of its largest gaps in balanced accuracy."""
    attributes = {
        name: {
            "groups": content["groups"],
            "gaps": {figure: with_verdict(gap) for figure, gap in content["gaps"].items()},
        }
        for name, content in way["attributes"].items()
    }
    mean = {
        figure: content | {"gap": with_verdict(content["gap"])}
        for figure, content in way["mean"].items()
    }
    gaps = {n: content["gaps"]["balanced_accuracy"] for n, content in attributes.items()}
    widest = sorted((n for n, gap in gaps.items() if gap), key=lambda n: -gaps[n]["gap"])
    bars = [
        Bar(
            f"{in_words(n)} ({in_words(gaps[n]['low'])} lower)",
            100 * gaps[n]["gap"],
            scaled(gaps[n]["interval"]),
            gaps[n]["clear"],
        )
        for n in widest[:MOST_BARS]
    ]
    title = f"Largest gaps in balanced accuracy by {in_words(way['by'])}"
    chart = bar_chart(bars, title, "gap, points of balanced accuracy") if bars else ""
    return dict(way) | {"attributes": attributes, "mean": mean, "chart": chart}


def with_verdict(gap: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a gap with whether its interval excludes zero."""
    return None if gap is None else dict(gap) | {"clear": is_clear(gap)}


def scaled(ends: Sequence[float] | None) -> tuple[float, float] | None:
    """Return an interval of shares in percent."""
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def _commands(run: Path, kind: str, split: str, settings: Mapping[str, Any]) -> str:
    name = run.resolve().name
    if kind == "finetune":
        source = Path(settings["pretrained"]).name if settings.get("pretrained") else "none"
        return (
            f"sspl finetune --settings {name}/{SETTINGS_FILE} --from {source} --out again\n"
            f"sspl evaluate again --split {split}\nsspl report again --out report.html"
        )
    if kind == "probe":
        return (
            f"sspl probe --settings {name}/{SETTINGS_FILE} --out again\n"
            f"sspl evaluate again --split {split}\nsspl report again --out report.html"
        )
    if kind == "pretrain":
        return (
            f"sspl pretrain --settings {name}/{SETTINGS_FILE} --out again\n"
            "sspl report again --out report.html"
        )
    return f"sspl parser train IMAGES MASKS --settings {name}/{SETTINGS_FILE} --out again"
