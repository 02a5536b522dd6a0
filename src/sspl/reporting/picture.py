"""The label-efficiency curves of a study as a picture, for a README."""

from pathlib import Path
from typing import Final

from sspl.errors import DataError, SsplError
from sspl.io.files import atomic_path
from sspl.reporting.curves import curve_points, leading_methods
from sspl.reporting.result_table import FIRST, TITLES, group_rows, in_order, read_results_csv

PICTURED_FIGURES: Final = ("accuracy", "average_precision")
COLOURS: Final = ("#0b62a8", "#b3470f", "#0d7a50", "#8b2f92", "#7d6a00", "#b01e4f")
MARKS: Final = "os^Dos"


def require_matplotlib() -> None:
    """Raise `SsplError` where matplotlib, which draws pictures alone, is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SsplError(
            "pictures need matplotlib, which is not installed; run in the clone of sspl: "
            "pip install '.[plots]'."
        ) from None


def draw_curves(table: Path, out: Path) -> None:
    """Draw fine-tuned accuracy and average precision by label count; write a PNG.

    Raises `DataError` when the table has no fine-tuned cells.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    groups = [g for g in group_rows(read_results_csv(table)) if g.protocol == "finetune"]
    if not groups:
        raise DataError(f"{table}: holds no fine-tuned cells.")
    methods = in_order((g.method for g in groups), FIRST)
    leading = leading_methods(groups, methods, FIRST[:1] + FIRST[-1:])
    counts = sorted({g.labels for g in groups})
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(PICTURED_FIGURES)), PICTURED_FIGURES, strict=True):
        for method in (m for m in methods if m not in leading):
            points, _ = curve_points(groups, method, name)
            axes.plot(*zip(*points, strict=True), color="#c3c6ca", linewidth=1, zorder=1)
        for number, method in enumerate(leading):
            points, spreads = curve_points(groups, method, name)
            xs, ys = zip(*points, strict=True)
            axes.errorbar(
                xs,
                ys,
                [s or 0 for s in spreads],
                color=COLOURS[number],
                marker=MARKS[number],
                markersize=4.5,
                capsize=2,
                label=method,
                zorder=2,
            )
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("labelled faces")
        axes.set_title(f"{TITLES[name]}, %", fontsize=11)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if len(leading) < len(methods):
        axes.plot([], [], color="#c3c6ca", label="others")
    axes.legend(frameon=False, fontsize=9)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
