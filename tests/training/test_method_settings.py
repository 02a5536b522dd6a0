"""What the method does unless told otherwise, and where its settings end."""

import pytest

from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.errors import SettingsError
from sspl.models.network_settings import SegmentationSettings
from sspl.settings import Settings, build
from sspl.tasks.base import PretextTask
from sspl.tasks.pct import PatchClassification, PCTSettings
from sspl.tasks.prt import PatchRotation, PRTSettings
from sspl.tasks.pst import PatchSegmentation, PSTSettings
from sspl.training.loss_settings import AdversarialSettings, LossSettings


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        # docs/method.md#stage-1: nine patches, smoothing 0.1, the nine largest classes.
        (PRTSettings, {
            "grid": 3, "patch_size": None, "background_limit": 0.5, "jitter": 4.0,
            "angle_zero": "ignore", "norm_averages": "crops", "standardise": "together",
        }),
        (PSTSettings, {"label_smoothing": 0.1, "target_stride": 1}),
        (PCTSettings, {"rule": "top", "top": 9, "share": 0.005}),
        (SegmentationSettings, {"maps": 1, "width": 128, "attention": "none"}),
        # "Stage 2": plain cross-entropy; the rest is the other losses' own.
        (LossSettings, {
            "name": "bce", "gamma_positive": 0, "gamma_negative": 2, "margin": 0.05,
            "adjustment": 1, "belief": 0.9,
        }),
        (AdversarialSettings, {
            "weight": 1, "every": 3, "lr": 5e-4, "betas": (0.9, 0.99), "weight_decay": 5e-4,
        }),
        # "Do not repeat" 2: no turned faces.
        (GeometrySettings, {"scale": (0.8, 1.0), "shift": 1, "rotation": 0, "flip": 0.5}),
        (ColourSettings, {
            "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "cast": 0.05, "grey": 0,
        }),
    ],
)  # fmt: skip
def test_what_happens_unless_told_otherwise(
    kind: type[Settings], wanted: dict[str, object]
) -> None:
    assert kind().model_dump() == wanted


SHARE = ([0, 1], [-0.01, 1.01])
"""From 0 to 1, both included."""


@pytest.mark.parametrize(
    ("kind", "field", "fit", "unfit"),
    [
        (PRTSettings, "grid", [2, 3, 4], [1, 5]),
        (PRTSettings, "patch_size", [8], [7]),
        (PRTSettings, "background_limit", [0.01, 1], [0, 1.01]),
        (PRTSettings, "jitter", [0], [-0.01]),
        (PSTSettings, "label_smoothing", [0, 0.99], [-0.01, 1]),
        (PSTSettings, "target_stride", [1, 16], [0, 17]),
        (PCTSettings, "top", [1], [0]),
        (PCTSettings, "share", [0, 0.99], [-0.01, 1]),
        (SegmentationSettings, "maps", [1, 4], [0, 5]),
        (SegmentationSettings, "width", [8], [7]),
        (LossSettings, "gamma_positive", [0], [-0.01]),
        (LossSettings, "gamma_negative", [0], [-0.01]),
        (LossSettings, "margin", [0, 0.99], [-0.01, 1]),
        (LossSettings, "adjustment", [0], [-0.01]),
        (LossSettings, "belief", [0.01, 1], [0, 1.01]),
        (AdversarialSettings, "weight", [0], [-0.01]),
        (AdversarialSettings, "every", [1], [0]),
        (AdversarialSettings, "lr", [1e-6], [0]),
        (GeometrySettings, "scale", [(0.01, 0.01), (0.5, 1.5)], [(0, 1), (1, 0.5)]),
        (GeometrySettings, "shift", *SHARE),
        (GeometrySettings, "rotation", [0, 180], [-1, 181]),
        (GeometrySettings, "flip", *SHARE),
        *((ColourSettings, field, *SHARE) for field in ColourSettings.model_fields),
    ],
)
def test_where_a_setting_ends(
    kind: type[Settings], field: str, fit: list[object], unfit: list[object]
) -> None:
    for value in fit:
        assert getattr(build(kind, {field: value}), field) == value
    for value in unfit:
        with pytest.raises(SettingsError, match=field):
            build(kind, {field: value})


@pytest.mark.parametrize(
    ("task", "name", "uses_crop", "needs_masks"),
    [
        # Rotation cuts its own patches, by masks where there are some (docs/method.md#stage-1).
        (PatchRotation, "prt", False, False),
        (PatchSegmentation, "pst", True, True),
        (PatchClassification, "pct", True, True),
    ],
)
def test_what_the_tasks_ask_for(
    task: type[PretextTask], name: str, uses_crop: bool, needs_masks: bool
) -> None:
    assert (task.name, task.uses_crop, task.needs_masks) == (name, uses_crop, needs_masks)
