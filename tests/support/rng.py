"""Random bytes that are the same in every run."""

import random
from collections.abc import Callable


def seeded_bytes(seed: int = 0) -> Callable[[int], bytes]:
    """Return a source of random bytes that a seed decides."""
    return random.Random(seed).randbytes  # noqa: S311 - tests repeat; nothing here is secret
