"""The four face regions of the method (docs/method.md#the-two-architectures)."""

from typing import Final

WHOLE: Final = "whole"
REGIONS: Final = (WHOLE, "upper", "middle", "lower")
