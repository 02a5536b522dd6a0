"""What the benchmarks measure time with."""

import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]


def timed(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """Return the median seconds of each work; a first round warms up and does not count.

    All take their turn in each round, so that other work on the machine hits all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
