"""The model card: what a model is and is not good for, in the words of its own figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sspl.evaluation.decided import decided_mean
from sspl.evaluation.statistics import drawn_text
from sspl.evaluation.subgroups import is_clear
from sspl.metrics.attributes import remarks
from sspl.models.bundle import AttributeModel
from sspl.models.extractor_settings import FROZEN
from sspl.weights import BUILT_IN

CONTESTED: Final = {
    "Attractive": "is a labeller's taste",
    "Male": "is a binary guess at gender from looks, not a person's sex or gender",
    **dict.fromkeys(
        ("Young", "Chubby", "Double_Chin", "Bags_Under_Eyes"), "judges age, weight or health"
    ),
    **dict.fromkeys(
        ("Big_Nose", "Big_Lips", "Pointy_Nose", "Narrow_Eyes", "Pale_Skin"),
        "is relative to a norm, and varies with ancestry",
    ),
    **dict.fromkeys(
        ("Heavy_Makeup", "Wearing_Lipstick", "No_Beard"), "goes along with gender presentation"
    ),
}
"""Attributes that should not be predicted about people outside a study of data sets."""

FEW: Final = 20
"""Test faces of either kind below which an attribute's figures are called uncertain."""

CARD_FIGURES: Final = {
    "accuracy": "Accuracy",
    "majority_accuracy": "Majority",
    "balanced_accuracy": "Balanced",
    "average_precision": "AP",
    "calibration_error": "ECE",
}

WIDE: Final = 0.1
"""Width of an interval of balanced accuracy from which on a figure is called rough."""

RULES: Final = {
    "balanced": "are those with the best balanced accuracy",
    "f1": "are those with the best F1",
}
HALF: Final = "are there from probability 0.5 on"

USE: Final = """\
```python
import sspl

found = sspl.load("{name}").predict(["face.jpg"])
print(found[0])
```
"""

LIMITS: Final = """\
- It looks at what is in the picture. It knows no person, and says nothing of anybody's mind,
  character, health, origin or identity.
- It was trained and judged on faces framed as above. Other framing, cameras, light, ages and groups
  of people make its answers worse, in ways that no figure here shows.
- Labels of face attributes are opinions. On several of CelebA's attributes people agree hardly
  better than chance (Wu et al., arXiv 2210.07356).
"""

RESPONSIBLE: Final = """\
Do not use it for decisions on people (hiring, credit, insurance, housing, schooling, policing,
borders, access), for surveillance or identification, or to infer sex, gender identity, sexual
orientation, ethnicity, religion, health or emotion. Have a legal basis for every picture, and a
person who answers for the outcome. The terms of the data that it was trained on may bind the model.
"""


@dataclass(frozen=True)
class RunMetadata:
    """What a run folder says of its model.

    Args:
        name: of the model.
        licence: under which the weights may be used; None: not stated.
        description: of the data; None: not recorded.
        labelled, validation: faces learnt from and selected on.
        selected_by: figure by which the epoch was chosen.
        best: the chosen epoch's row of the log.
        settings: of stage 2.
        pretraining: settings of stage 1.
        versions: of what the result depends on.
        evaluations: split to the content of its evaluation file.
        label_counts: attribute to its labelled faces that say `yes` and `no`; empty: not recorded.
        decided: what `sspl model decide` chose and on which faces; empty: nothing.
        extractors: of each frozen network what it is, its bytes and what a face costs.
        taught: which models stood in for labels, as a sentence; empty: none.
        kept: sentences on which epoch was kept and why, and what its figures leave open.
    """

    name: str
    licence: str | None
    description: str | None
    labelled: int | None
    validation: int | None
    selected_by: str | None
    best: Mapping[str, Any]
    settings: Mapping[str, Any]
    pretraining: Mapping[str, Any]
    versions: Mapping[str, str]
    evaluations: Mapping[str, Mapping[str, Any]]
    label_counts: Mapping[str, Mapping[str, int]]
    decided: Mapping[str, Any]
    kept: Sequence[str] = ()
    extractors: Sequence[Mapping[str, Any]] = ()
    taught: str = ""


def model_card(model: AttributeModel, metadata: RunMetadata) -> str:
    """Return the card as Markdown, with the front matter that model hubs read."""
    sections = {
        "What it predicts": _attributes(model, metadata),
        "How to use it": USE.format(name=metadata.name) + "\n" + _input(model),
        "What it was trained on": _training(metadata),
        **({"What it reads": _extractors(metadata)} if metadata.extractors else {}),
        "How good it is": _figures(metadata),
        "Calibration and thresholds": _calibration(model, metadata),
        "Limits": LIMITS + _weak_spots(model, metadata),
        "Responsible use": RESPONSIBLE + _contested(model.schema.names),
        "Made with": "\n".join(f"- {k} {v}" for k, v in metadata.versions.items()) + "\n",
    }
    body = "\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"{_front_matter(metadata)}\n# {metadata.name}\n\n{_lead(model, metadata)}\n{body}"


def _front_matter(metadata: RunMetadata) -> str:
    lines = ["---", "library_name: sspl", "pipeline_tag: image-classification"]
    lines += ["tags: [face-attributes]", "license: other"]
    if metadata.licence:
        lines.append(f"license_name: {_quoted(metadata.licence)}")
    return "\n".join([*lines, "---", ""])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''").replace("\n", " ") + "'"


def _lead(model: AttributeModel, metadata: RunMetadata) -> str:
    count = len(model.schema)
    labels = f" from {metadata.labelled:,} labelled faces" if metadata.labelled else ""
    how = (
        "with Spatial-Semantic Patch Learning (Shu et al., CVPR 2021; "
        f"architecture `{model.network.architecture}`)"
    )
    if model.network.architecture == FROZEN:
        how = "as linear heads on features of frozen networks"
    elif metadata.extractors:
        how += ", and as linear heads on features of frozen networks"
    return (
        f"Predicts {count} attribute{'s' * (count != 1)} of a face in a picture, learnt{labels} "
        f"{how}.\n\n"
        f"Licence of the weights: {metadata.licence or 'not stated; ask who gave you the model'}.\n"
    )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _attributes(model: AttributeModel, metadata: RunMetadata) -> str:
    thresholds = model.decisions.threshold_array(model.schema.names)
    rows = []
    for i, name in enumerate(model.schema.names):
        band = model.decisions.unsure.get(name)
        unsure = "-" if band is None else f"{band[0]:.3f} to {band[1]:.3f}"
        counts = metadata.label_counts.get(name)
        labels = (str(counts["yes"]), str(counts["no"])) if counts else ("-", "-")
        share = _percent(float(model.training_rates[i]))
        region = model.schema.regions[i]
        rows.append((name, region, *labels, share, f"{thresholds[i]:.3f}", unsure))
    titles = ("Attribute", "Face region", "Labelled yes", "no", "% yes", "Yes from", "Not sure in")
    return _table(titles, rows)


def _input(model: AttributeModel) -> str:
    left, top, right, bottom = (f"{100 * v:.1f} %" for v in model.box)
    return (
        f"One face a picture. The largest centred square between {left} and {right} of the width "
        f"and {top} and {bottom} of the height is used, resized to {model.canvas} px"
        + (
            ", and each network is shown it at its own size."
            if model.network.architecture == FROZEN
            else f" and shown to the network at {model.input_size} px; pixels become "
            "(value - 127.5) / 127.5."
        )
        + (" Logits of the face and of its mirror image are averaged." * model.flip_average)
        + "\n"
    )


def _training(metadata: RunMetadata) -> str:
    lines = [f"- Data: {metadata.description or 'not recorded'}."]
    if metadata.labelled is not None:
        lines.append(f"- {metadata.labelled:,} labelled faces")
        if metadata.validation:
            lines[-1] += f", and {metadata.validation:,} more to select on"
            lines[-1] += f" (by {metadata.selected_by})" if metadata.selected_by else ""
        lines[-1] += "."
    if metadata.taught:
        lines.append(f"- {metadata.taught}")
    labels = metadata.settings.get("labels", {})
    if labels.get("rule") == "seeded":
        lines.append(f"- The labelled faces were drawn with seed {labels['subset_seed']}.")
    if "features" not in metadata.settings or "head" in metadata.settings:
        lines.append(f"- {_stage_one(metadata)}")
    if metadata.kept:
        lines += [f"- {line}" for line in metadata.kept]
    elif "epoch" in metadata.best:
        epochs = metadata.settings.get("optim", {}).get("epochs", "?")
        lines.append(f"- The weights of epoch {metadata.best['epoch']} of {epochs} were kept.")
    return "\n".join(lines) + "\n"


def extractor_lines(extractors: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence on each frozen network: what it is, its size and what a face costs."""
    return [
        f"{e['name']} ({'ONNX graph' if e['kind'] == 'onnx' else 'a run of this software'}, "
        f"SHA-256 {e['sha256'][:16]}): {e['features']:,} features of a face at {e['side']} px, "
        f"{e['bytes'] / 1e6:.1f} MB, {e['milliseconds']:g} ms a face on {e['cores']} "
        f"core{'s' * (e['cores'] != 1)} ({e['device']})."
        for e in extractors
    ]


def _extractors(metadata: RunMetadata) -> str:
    lines = [f"- {line}\n" for line in extractor_lines(metadata.extractors)]
    total = sum(e["bytes"] for e in metadata.extractors) / 1e6
    return "".join(lines) + (
        f"\nThese networks, {total:.1f} MB, are within the model's file. They are others' work: "
        "see that their terms let you hand them on, and what faces they have learnt from.\n"
    )


def _stage_one(metadata: RunMetadata) -> str:
    if not metadata.settings:
        return "Pre-training: not recorded."
    if not metadata.settings.get("pretrained"):
        return "Not pre-trained on unlabelled faces."
    if metadata.settings["pretrained"] == BUILT_IN:
        return "Started from the weights in the package of sspl, learnt from drawn faces alone."
    stage = metadata.pretraining
    if not stage:
        return "Pre-trained on unlabelled faces; the settings of that run are not at hand."
    if "tasks" not in stage:
        return "Went on from another fine-tuned model, whose own training is not described here."
    formats = ", ".join(f"'{part['format']}'" for part in stage["data"])
    return (
        f"Pre-trained without labels by {', '.join(stage['tasks'])} for "
        f"{stage['optim']['epochs']} epochs on faces in the format {formats}."
    )


def _figures(metadata: RunMetadata) -> str:
    if not metadata.evaluations:
        return "It was not evaluated: nothing is known of how good it is.\n"
    return "\n".join(_evaluation(split, found) for split, found in metadata.evaluations.items())


def _evaluation(split: str, found: Mapping[str, Any]) -> str:
    titles = ("Attribute", "Yes", "No", *CARD_FIGURES.values())
    intervals = found.get("intervals", {})
    each = intervals.get("attributes", {})
    rows = [
        (name, str(row["positives"]), str(row["negatives"]), *_cells(row, each.get(name, {})))
        for name, row in found["attributes"].items()
    ]
    rows.append(("**mean**", "", "", *_cells(found["mean"], intervals.get("mean", {}))))
    drawn = f"; in brackets {drawn_text(intervals)}" if intervals else ", without intervals"
    return (
        f"Split `{split}`, {found['faces']:,} faces, decided at probability 0.5, in percent"
        f"{drawn}. `Majority` is the accuracy of always giving the commoner answer of the training "
        "labels; "
        "`Balanced` the mean hit rate on yes and on no (50 is chance); `AP` how well the yes are "
        "ranked; `ECE` how far probabilities are from frequencies.\n\n"
        + _table(titles, rows)
        + "".join(f"\n{line}\n" for line in remarks(found, len(rows) - 1, "faces judged"))
        + _groups(split, found.get("subgroups", ()))
        + _decided(split, found.get("decisions", {}))
    )


def _cells(row: Mapping[str, Any], bounds: Mapping[str, Any]) -> list[str]:
    return [_with_bounds(row[figure], bounds.get(figure)) for figure in CARD_FIGURES]


def _with_bounds(value: float | None, bounds: Sequence[float] | None) -> str:
    shown = _percent(value)
    return f"{shown} [{_percent(bounds[0])}, {_percent(bounds[1])}]" if bounds else shown


def _groups(split: str, subgroups: Sequence[Mapping[str, Any]]) -> str:
    """Say how far groups of people are apart in balanced accuracy, where that is known."""
    if not subgroups:
        return f"\nGroups of people on `{split}` were not compared.\n"
    lines = []
    for grouping in subgroups:
        sizes = ", ".join(f"{group} {size:,} faces" for group, size in grouping["groups"].items())
        mean = grouping["mean"]["balanced_accuracy"]
        if mean["gap"] is None:
            lines.append(f"- by {grouping['by']} ({sizes}): too few faces of each kind to say.")
            continue
        shown = ", ".join(f"{group} {_percent(v)}" for group, v in mean["groups"].items())
        gap = mean["gap"]
        lines.append(
            f"- by {grouping['by']} ({sizes}): {shown}; gap "
            f"{_with_bounds(gap['gap'], gap['interval'])}, mean of {len(mean['attributes'])} "
            f"attributes. {_clear_gaps(grouping)}"
        )
    title = f"\nBalanced accuracy by groups of people on `{split}`:\n\n"
    return title + "".join(f"{line}\n" for line in lines)


def _clear_gaps(grouping: Mapping[str, Any]) -> str:
    """Name the attributes whose gap is more than chance, the widest first."""
    gaps = {
        name: found
        for name, content in grouping["attributes"].items()
        if is_clear(found := content["gaps"]["balanced_accuracy"])
    }
    if not gaps:
        return "On no attribute is the gap more than chance."
    order = sorted(gaps, key=lambda name: -float(gaps[name]["gap"]))
    named = (f"{n} {_percent(gaps[n]['gap'])} ({gaps[n]['low']} lower)" for n in order)
    return f"More than chance on {', '.join(named)}."


def _decided(split: str, decisions: Mapping[str, Mapping[str, Any]]) -> str:
    if not decisions:
        return ""
    figures = ("accuracy", "balanced_accuracy", "unsure", "sure_accuracy")
    titles = ("Attribute", "Yes from", "Accuracy", "Balanced", "Not sure", "Accuracy when sure")
    rows = [
        (name, f"{row['threshold']:.3f}", *(_percent(row[f]) for f in figures))
        for name, row in decisions.items()
    ]
    mean = decided_mean(decisions)
    rows.append(("**mean**", "", *(_percent(mean[f]) for f in figures)))
    return f"\nThe model's own decisions on `{split}`, in percent:\n\n" + _table(titles, rows)


def _calibration(model: AttributeModel, metadata: RunMetadata) -> str:
    fitted = bool((model.temperatures != 1).any())
    lines = [
        "Probabilities are calibrated: one temperature for each attribute, fitted on the "
        "validation faces."
        if fitted
        else "Probabilities are not calibrated."
    ]
    if fitted and metadata.validation:
        lines[0] += f" Those were {metadata.validation:,}; among other people they may be off."
    lines.append(_thresholds(model, metadata))
    if model.decisions.unsure:
        lines.append('Probabilities in an attribute\'s band are answered with "not sure".')
    return "\n".join(lines) + "\n"


def _thresholds(model: AttributeModel, metadata: RunMetadata) -> str:
    if not metadata.decided:
        return (
            "Thresholds were tuned on the validation faces."
            if model.decisions.thresholds
            else "An attribute is there from probability 0.5 on; no threshold was tuned."
        )
    given = ", ".join(sorted(metadata.decided["given"]))
    start = f"Given by hand: {given}. The other attributes " if given else "Attributes "
    rule = RULES.get(metadata.decided["rule"])
    kind = "validation" if metadata.decided["validation"] else "other labelled"
    on = f"(`sspl model decide`, {metadata.decided['faces']:,} {kind} faces)."
    return start + (f"have thresholds that {rule} {on}" if rule else f"{HALF} {on}")


def _weak_spots(model: AttributeModel, metadata: RunMetadata) -> str:
    lines = []
    never = [name for name, band in model.decisions.unsure.items() if band == (0.0, 1.0)]
    if never:
        lines.append(f"- It is never sure of: {', '.join(never)}.")
    for split, found in metadata.evaluations.items():
        rows = found["attributes"]
        useless = [n for n, r in rows.items() if _no_better(r)]
        few = [n for n, r in rows.items() if min(r["positives"], r["negatives"]) < FEW]
        if useless:
            lines.append(
                f"- On `{split}` its decisions are no better than the commoner answer for: "
                f"{', '.join(useless)}."
            )
        rough = [
            name
            for name, bounds in found.get("intervals", {}).get("attributes", {}).items()
            if (ends := bounds.get("balanced_accuracy")) and ends[1] - ends[0] >= WIDE
        ]
        if rough:
            lines.append(
                f"- On `{split}` the balanced accuracy of these is known to within "
                f"{100 * WIDE:.0f} points at best: {', '.join(rough)}."
            )
        if not found.get("subgroups"):
            lines.append(f"- Whom it fails is not known: `{split}` says nothing of groups.")
        if few:
            lines.append(
                f"- `{split}` has fewer than {FEW} faces of one kind for: {', '.join(few)}. "
                "Their figures mean little."
            )
    return "".join(f"{line}\n" for line in lines)


def _no_better(row: Mapping[str, Any]) -> bool:
    accuracy, majority = row["accuracy"], row["majority_accuracy"]
    return accuracy is not None and majority is not None and accuracy <= majority


def _contested(names: Sequence[str]) -> str:
    lines = [f"- {name} {CONTESTED[name]}." for name in names if name in CONTESTED]
    if not lines:
        return ""
    return "\nNot to be predicted about people outside a study of data sets:\n\n" + "".join(
        f"{line}\n" for line in lines
    )
