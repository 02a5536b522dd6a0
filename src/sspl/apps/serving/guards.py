"""What a request must satisfy before any work is done for it."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

MOST_ADDRESSES: Final = 10_000


class RateLimit:
    """A token bucket for each address; the longest unseen addresses are forgotten.

    Args:
        rate: tokens per second.
        burst: tokens of a full bucket.
        clock: seconds, never going back.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self.burst = burst
        self.clock = clock
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Take a token and return 0, or return after how many seconds there will be one."""
        now = self.clock()
        tokens, seen = self.buckets.pop(address, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - seen) * self.rate)
        granted = tokens >= 1
        self.buckets[address] = (tokens - 1 if granted else tokens, now)
        if len(self.buckets) > MOST_ADDRESSES:
            self.buckets.popitem(last=False)
        return 0.0 if granted else (1 - tokens) / self.rate


def from_another_site(host: str | None, origin: str | None, fetch_site: str | None) -> bool:
    """Tell whether a browser sent a request for a page of another site.

    Programs send neither header; browsers cannot leave out or forge `Origin` on a POST.
    """
    if fetch_site is not None and fetch_site not in {"same-origin", "none"}:
        return True
    return origin is not None and urlsplit(origin).netloc != host
