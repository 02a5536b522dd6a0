"""Pages from templates: one file each, nothing in it points outside."""

import base64
import io
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from sspl import __version__
from sspl.domain.wording import in_words

JPEG_QUALITY: Final = 82


def render(template: str, **content: Any) -> str:
    """Fill a template of this package."""
    environment = Environment(
        loader=PackageLoader("sspl.reporting"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "cell": cell, "bounds": bounds, "words": in_words}
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(version=__version__, made=made, **content)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share in percent, a dash where it is not defined."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def bounds(ends: tuple[float, float] | None, digits: int = 1) -> str:
    """Return an interval of shares in percent."""
    if ends is None:
        return ""
    return f"{100 * ends[0]:.{digits}f} to {100 * ends[1]:.{digits}f}"


def cell(value: float | None, ends: tuple[float, float] | None = None, digits: int = 1) -> Markup:
    """Return a table's cell: a share in percent, and in small its interval below.

    The share itself stands in `data-value`, which tables are sorted by.
    """
    raw = "" if value is None else f' data-value="{value!r}"'
    small = f"<small>{bounds(ends, digits)}</small>" if ends is not None else ""
    return Markup(f'<td class="n"{raw}>{percent(value, digits)}{small}</td>')


def picture(pixels: NDArray[np.uint8], alt: str, width: int | None = None) -> Markup:
    """Return an image element that carries its pixels, uint8 (h, w, 3), as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return _image(buffer, "jpeg", pixels, alt, width)


def drawing(pixels: NDArray[np.uint8], alt: str, width: int | None = None) -> Markup:
    """Like `picture`, as PNG: for masks and other flat colours."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return _image(buffer, "png", pixels, alt, width)


def _image(
    buffer: io.BytesIO, kind: str, pixels: NDArray[np.uint8], alt: str, width: int | None
) -> Markup:
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    side = width or pixels.shape[1]
    height = round(side * pixels.shape[0] / pixels.shape[1])
    return Markup(
        f'<img src="data:image/{kind};base64,{data}" alt="{escape(alt)}" '
        f'width="{side}" height="{height}">'
    )
