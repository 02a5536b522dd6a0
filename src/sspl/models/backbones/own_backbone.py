"""A backbone of the user's own: a class in a Python file that the user names each time."""

from typing import Final

import torch

from sspl.errors import SettingsError, first_line
from sspl.io.user_code import load_trusted
from sspl.models.backbones.base import MAPS, TRIAL, Backbone
from sspl.models.network_settings import BackboneSettings

OPTION: Final = "--backbone"


def build_own(settings: BackboneSettings) -> Backbone:
    """Build the backbone of `settings.own`, which gets the settings.

    Raises `SettingsError` where its file is not the one that was named in this process, has no such
    class, or the class does not give four maps that halve in size.
    """
    own = str(settings.own)
    code = own.partition("@")[0]
    kind = load_trusted(own, OPTION)
    if not (isinstance(kind, type) and issubclass(kind, Backbone)):
        raise SettingsError(f"{OPTION} {code}: there is no such class derived from Backbone.")
    backbone = kind(settings)
    try:
        with torch.no_grad():
            maps = backbone.eval()(torch.zeros(1, 3, TRIAL, TRIAL))
        shapes = [tuple(one.shape) for one in maps]
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"{OPTION} {code}: it cannot take a picture of {TRIAL} px ({first_line(error)})."
        ) from None
    first = shapes[0][-1] if shapes else 0
    wanted = [(1, width, *[-(-first // 2**i)] * 2) for i, width in enumerate(backbone.widths)]
    if len(shapes) != MAPS or shapes != wanted:
        raise SettingsError(
            f"{OPTION} {code}: its maps have shapes {shapes}; it must give four, of the channels "
            f"in `widths` ({backbone.widths}), each half the size of the one before."
        )
    return backbone.train()
