"""Start the labelling page."""

import logging
import secrets
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sspl.apps.labelling.definitions import Definitions
from sspl.apps.labelling.desk import Desk
from sspl.apps.labelling.faces import (
    first_order,
    held_out,
    images_root,
    names_listed,
    readable,
    unlabelled,
)
from sspl.apps.labelling.label_journal import LabelJournal
from sspl.apps.labelling.labelling_settings import LabellingSettings
from sspl.data.adapters.columns import no_attribute
from sspl.data.data_settings import DataSettings, crop_text
from sspl.data.images import WHOLE_FRAME
from sspl.data.records import FaceSet
from sspl.data.skipping import OnError
from sspl.domain.attributes import attribute_fault, likeness_fault
from sspl.errors import DataError, SettingsError, SsplError

if TYPE_CHECKING:
    from sspl.apps.labelling.coach import Coach
    from sspl.training.feature_source import FeatureSource


log = logging.getLogger(__name__)

LONGEST_NAME: Final = 100


def run_labelling(
    data: DataSettings,
    attributes: tuple[str, ...],
    out: Path,
    settings: LabellingSettings,
    *,
    source: Path | None = None,
    order: Path | None = None,
    without: Path | None = None,
    test: float = 0.0,
    definitions: Path | None = None,
    then: str = "",
    seed: int = 0,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    on_error: OnError = "fail",
) -> None:
    """Serve the page until interrupted.

    Args:
        data: the faces; where they have splits, the training split counts.
        attributes: what to ask for.
        out: CSV file of the answers.
        settings: limits.
        source: run or model that suggests; without one the order is by chance.
        order: CSV file with the faces to begin with.
        without: CSV file with faces not to show.
        test: share of the faces to hold out for the test, by chance and by `seed`.
        definitions: file of what the attributes mean; one beside `out` unless given.
        then: the command that the page names when there are enough answers; `finetune` unless
            given.
        seed: of all that is by chance.
        host, port: where to listen.
        device: where the network runs.
        on_error: what to do with pictures that cannot be read.

    Raises:
        SsplError: when the extra is not installed, a file does not fit, or the address cannot
            be listened on.
    """
    try:
        from sspl.apps.labelling.app import make_app
        from sspl.apps.serving.shell import run_app
    except ImportError as absent:
        raise SsplError(
            f"labelling needs a package that is not installed ({absent.name}); "
            "run in the clone of sspl: pip install '.[serve]'."
        ) from None
    _check_names(attributes)
    meanings = Definitions(definitions, given=True) if definitions else None
    faces = readable(unlabelled(data.open()), on_error, out)
    hidden = frozenset(names_listed(without, faces)) if without else frozenset()
    if len(hidden) == len(faces):
        raise DataError(f"{without} names every face of {faces.source}; none is left to label.")
    sequence, found = first_order(faces, order, seed), _source(source)
    root = partial(images_root, faces)
    journal = LabelJournal(out, attributes, root, settings.unknown, dealt=test > 0)
    try:
        drawn = held_out(faces, test, seed)
        desk = Desk(faces, journal, attributes, sequence, hidden, drawn, meanings)
        _remark_on_changed(desk)
        coach = _coach(found, data, desk, settings.every, seed, device) if found else None
        key = secrets.token_urlsafe(16)
        start = source if found is not None and found.model is None else None
        app = make_app(
            desk, coach, settings, key, then or finetune_command(data, faces, out, start)
        )
        if coach:
            coach.start()
        try:
            run_app(app, host, port, f"#{key}")
        finally:
            if coach:
                coach.stop()
    finally:
        journal.close()


def finetune_command(data: DataSettings, faces: FaceSet, out: Path, start: Path | None) -> str:
    """Return the command that learns from the answers in `out`.

    Args:
        data, faces: what was labelled.
        out: CSV file.
        start: run of stage 1 that suggested; None where `finetune` starts as it does by itself.
    """
    packed = not isinstance(faces.images[0], Path)
    spec = f"csv:{out},images={'FOLDER' if packed else images_root(faces)}"
    if (box := data.box_of(faces)) != WHOLE_FRAME:
        spec += f",crop={crop_text(box)}"
    begin = [] if start is None else ["--from", str(start)]
    folder = str(out.with_name(f"{out.stem}-model"))
    return shlex.join(["sspl", "finetune", "--data", spec, *begin, "--out", folder])


def _remark_on_changed(desk: Desk) -> None:
    if changed := desk.changed:
        more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        log.warning(
            "%s%s: not the picture that was answered; --attributes are asked for again, and until "
            "then its answers stay in %s.",
            changed[0],
            more,
            desk.journal.out,
        )


def _source(path: Path | None) -> "FeatureSource | None":
    # Without suggestions nothing of this is needed, and the page opens at once.
    if path is None:
        return None
    from sspl.training.feature_source import load_source

    return load_source(path)


def _coach(
    found: "FeatureSource", data: DataSettings, desk: Desk, every: int, seed: int, device: str
) -> "Coach":
    from sspl.apps.labelling.coach import Coach
    from sspl.apps.labelling.suggest import box_of

    return Coach(found, desk, box_of(data, found), every, seed, device)


def _check_names(attributes: tuple[str, ...]) -> None:
    if not attributes:
        raise SettingsError("--attributes: name what to ask for, as in Eyeglasses,Smiling.")
    fault = attribute_fault(attributes) or likeness_fault(attributes)
    if fault:
        raise SettingsError(f"--attributes: {fault}.")
    for name in attributes:
        if len(name) > LONGEST_NAME:
            raise SettingsError(f"--attributes: '{name}' is too long for the page.")
        if meaning := no_attribute(name):
            raise SettingsError(
                f"--attributes: a column '{name}' would be read as {meaning}; choose another name."
            )
