"""The four face regions of the method (METHOD.md "The two architectures")."""

from typing import Final

WHOLE: Final = "whole"
REGIONS: Final = (WHOLE, "upper", "middle", "lower")
