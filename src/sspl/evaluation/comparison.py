"""Fine-tuning with and without pre-training over label subsets, judged on the test split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.data_settings import DataSettings
from sspl.evaluation.evaluate import evaluate, write_evaluation
from sspl.io.files import write_csv
from sspl.io.run_files import SETTINGS_FILE, finished
from sspl.settings import build, merge
from sspl.training.finetune import finetune
from sspl.training.stage_settings import FinetuneSettings, RuntimeSettings
from sspl.weights import absolute

SCRATCH: Final = "from scratch"
PRETRAINED: Final = "SSPL pre-trained"
COMPARISON_FIGURES: Final = (
    "accuracy",
    "balanced_accuracy",
    "average_precision",
    "auc",
    "majority_accuracy",
)


@dataclass(frozen=True)
class ArmResult:
    """Test figures of one arm.

    Args:
        means: for each subset the mean figures over the attributes.
        balanced: float64 (subsets, attributes), balanced accuracy, NaN where it is not defined.
    """

    means: list[dict[str, float]]
    balanced: NDArray[np.float64]


def finetune_subset(
    content: Mapping[str, Any],
    data: DataSettings,
    pretrained: Path | None,
    labels: int,
    subset: int,
    out: Path,
) -> Path:
    """Fine-tune on one label subset into `out`; return the run folder.

    `content` holds the other settings of stage 2. A finished run is not run again, an interrupted
    one goes on.
    """
    folder = out / f"subset-{subset}"
    if not finished(folder):
        given = {
            "data": data.model_dump(mode="json"),
            "labels": {"count": labels, "subset_seed": subset},
            "pretrained": None if pretrained is None else absolute(str(pretrained)),
        }
        settings = build(FinetuneSettings, merge(dict(content), given))
        finetune(settings, folder, resume=(folder / SETTINGS_FILE).exists())
    return folder


def run_arm(
    content: Mapping[str, Any],
    data: DataSettings,
    pretrained: Path | None,
    labels: int,
    subsets: int,
    out: Path,
) -> ArmResult:
    """Fine-tune on subset 0, 1, ... as `finetune_subset` does and judge each on the test split."""
    test = data.open().split("test")
    means, balanced = [], []
    for subset in range(subsets):
        folder = finetune_subset(content, data, pretrained, labels, subset, out)
        found = evaluate(folder, test, RuntimeSettings())
        write_evaluation(folder, "test", found)
        means.append(found.summary["mean"])
        balanced.append(
            [np.nan if f.balanced_accuracy is None else f.balanced_accuracy for f in found.figures]
        )
    return ArmResult(means, np.array(balanced))


def write_comparison(path: Path, results: Mapping[str, ArmResult]) -> None:
    """Write one row for each arm and subset as CSV."""
    rows = [
        (arm, subset, *(round(row[c], 6) for c in COMPARISON_FIGURES))
        for arm, result in results.items()
        for subset, row in enumerate(result.means)
    ]
    write_csv(path, ("arm", "subset", *COMPARISON_FIGURES), rows)


def comparison_table(results: Mapping[str, ArmResult], labels: int) -> str:
    """Return mean and standard deviation over the subsets of each arm's figures, in percent."""
    title = f"{labels} labels"
    lines = [f"{title:<20}{'accuracy':>16}{'balanced':>16}{'AP':>16}{'majority':>12}"]
    for arm, result in results.items():
        cells = [spread([row[figure] for row in result.means]) for figure in COMPARISON_FIGURES[:3]]
        majority = 100 * float(np.mean([row["majority_accuracy"] for row in result.means]))
        lines.append(f"{arm:<20}" + "".join(f"{c:>16}" for c in cells) + f"{majority:>12.2f}")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of shares, in percent; of one share itself alone.

    Examples:
        >>> spread([0.5, 0.6]), spread([0.5])
        ('55.00 +- 7.07', '50.00')
    """
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} +- {100 * np.std(values, ddof=1):.2f}"
