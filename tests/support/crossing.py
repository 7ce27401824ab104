"""Something else that happens right before a chosen system call, as when another process is faster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def crossed(
    module: Any, call: str, matches: Callable[..., bool], act: Callable[[], object], times: int = 1
) -> Iterator[list[int]]:
    """Act before the first `times` calls whose arguments match; yields a list that counts these calls.

    What `act` calls itself is not counted.
    """
    real = getattr(module, call)
    seen: list[int] = []
    acting = False

    def instead(*arguments: Any, **options: Any) -> Any:
        nonlocal acting
        if not acting and len(seen) < times and matches(*arguments):
            seen.append(len(seen))
            acting = True
            try:
                act()
            finally:
                acting = False
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, call, instead)
        yield seen
