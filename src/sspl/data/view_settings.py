"""How random views are drawn, as settings."""

from pydantic import Field, model_validator

from sspl.settings import Settings


class GeometrySettings(Settings):
    """Random geometry of a view.

    `scale` is the side of the view as a share of the canvas, drawn log-uniformly; `shift`
    moves its centre: 1 lets the view touch the canvas edge but not cross it, 0 keeps it
    centred (a view larger than the canvas always stays centred within the slack).

    Examples:
        >>> GeometrySettings(scale=(0.5, 1.0), rotation=8).flip
        0.5
    """

    scale: tuple[float, float] = Field(
        (0.8, 1.0), description="smallest and largest side of a view, as a share of the canvas"
    )
    shift: float = Field(
        1.0,
        ge=0,
        le=1,
        description="how far a view may lie from the centre; 1: to the edge of the canvas",
    )
    rotation: float = Field(0.0, ge=0, le=180, description="largest turn, degrees either way")
    flip: float = Field(0.5, ge=0, le=1, description="chance of a left-right flip")

    @model_validator(mode="after")
    def _ordered(self) -> "GeometrySettings":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale needs 0 < smallest <= largest")
        return self


class ColourSettings(Settings):
    """Random colour of a view; every value is the largest relative change either way.

    Examples:
        >>> ColourSettings(brightness=0, grey=0.2).contrast
        0.2
    """

    brightness: float = Field(
        0.2, ge=0, le=1, description="largest relative change of the brightness"
    )
    contrast: float = Field(0.2, ge=0, le=1, description="largest relative change of the contrast")
    saturation: float = Field(
        0.2, ge=0, le=1, description="largest relative change of the saturation"
    )
    cast: float = Field(0.05, ge=0, le=1, description="change of one colour channel against others")
    grey: float = Field(0.0, ge=0, le=1, description="chance of a greyscale view")
