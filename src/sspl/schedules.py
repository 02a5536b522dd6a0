"""Learning-rate factors as pure functions of progress."""

import math


def warmup_cosine(progress: float, warmup: float, floor: float = 0.001) -> float:
    """Return the learning-rate factor at `progress` in [0, 1].

    Linear from near 0 to 1 over the first `warmup` share, then a half cosine down to `floor`.
    """
    if progress < warmup:
        return max(progress / warmup, floor)
    after = (progress - warmup) / (1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(after, 1.0)))
