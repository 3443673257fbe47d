"""What building a network asks of the interpreter."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

RECURSION_LIMIT = 20_000  # ResNet-1202 has 4,000 layers one behind the other


@contextmanager
def building() -> Iterator[None]:
    """No search for garbage: building frees nothing. Deep recursion: Keras walks networks recursively."""
    enabled, limit = gc.isenabled(), sys.getrecursionlimit()
    gc.disable()
    sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        if enabled:
            gc.enable()
