"""A model of frozen features: linear heads fitted in seconds, in a run folder like any other."""

import logging
from functools import partial
from pathlib import Path
from typing import Any, Final

from sspl.data.inputs import require_same_inputs
from sspl.data.subsets import save_subset
from sspl.errors import SettingsError
from sspl.io.run_files import SETTINGS_FILE, finished
from sspl.io.runs import claimed_run, start_run, write_metrics
from sspl.metrics.attributes import one_answer, positive_rates, remarks
from sspl.models.bundle import save_model
from sspl.training.finished import finished_model
from sspl.training.frozen_heads import frozen_features
from sspl.training.linear_heads import LinearHeads
from sspl.training.partition import partition
from sspl.training.run_inputs import LABELLED_FILE, VALIDATION_FILE, probe_inputs
from sspl.training.selection import LAST, Selection, selection, validation_figures
from sspl.training.stage_settings import ProbeSettings

KIND: Final = "probe"

log = logging.getLogger(__name__)


def probe(settings: ProbeSettings, out: Path) -> dict[str, Any]:
    """Fit heads on frozen features into the run folder `out`; return the summary.

    Features are kept as they are computed, so that an interrupted run is repeated at little cost.
    The strength of the regularisation, temperatures and thresholds are chosen on the validation
    faces; the test split is never opened.
    """
    if settings.data is None:
        raise SettingsError("data: no faces given; add --data FORMAT:FOLDER.")
    with claimed_run(out):
        parts = partition(settings)
        chosen_by = selection(settings, parts)
        if chosen_by.figure == LAST:
            raise SettingsError("select_by=last: heads have no epochs; name the figure.")
        features = frozen_features(settings, parts, out)
        inputs = partial(require_same_inputs, out, probe_inputs(settings, parts))
        goes_on = (out / SETTINGS_FILE).exists() and not finished(out)
        start_run(out, KIND, settings, settings.labels.subset_seed, goes_on, inputs=inputs)
        save_subset(out / LABELLED_FILE, parts.train.names)
        save_subset(out / VALIDATION_FILE, parts.val.names)
        heads, logits = features.fitted(settings.linear, parts, chosen_by.figure)
        network = features.network(heads)
        model = finished_model(settings, parts, network, features.canvas, features.canvas, logits)
        save_model(out, model)
        figures = validation_figures(
            parts.val, logits, positive_rates(parts.train.labels), chosen_by.left_out
        )
        best = {"strength": heads.strength} | {f"val/{n}": v for n, v in figures.items()}
        decisions, _ = model.decisions.decide(model.schema.names, model.probabilities(logits))
        summary = {
            "finished": True,
            "labelled": len(parts.train),
            "validation": len(parts.val),
            "label_counts": parts.train.label_counts(),
            "left_out": dict(chosen_by.left_out),
            "selected_by": chosen_by.figure,
            "best": best,
            "kept": _kept(heads, chosen_by, settings, best),
            "one_answer": one_answer(model.schema.names, decisions),
            "extractors": features.costs(parts.train),
        }
        write_metrics(out, [best], summary)
        log.info(summary["kept"])
        for line in remarks(summary, len(parts.train.schema), "validation faces"):
            log.warning(line)
        return summary


def _kept(
    heads: LinearHeads, chosen_by: Selection, settings: ProbeSettings, best: dict[str, Any]
) -> str:
    figure = chosen_by.figure.replace("_", " ")
    value = 100 * (best[f"val/{chosen_by.figure}"] or 0.0)
    return (
        f"Strength {heads.strength:g} of {len(settings.linear.strengths)} kept: best {figure} "
        f"({value:.2f} %) on the validation faces. Chosen by {figure} {chosen_by.why}."
    )
