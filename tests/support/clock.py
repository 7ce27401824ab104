"""A clock that a test can advance."""

import time
from types import ModuleType

import pytest


class Clock:
    """A stopped clock that replaces the module `time`; changing `past` advances it."""

    def __init__(self) -> None:
        self.past = 0.0
        """Seconds since the clock was stopped."""

    def time(self) -> float:
        """The real time of day plus `past`, because files are stamped with the real time."""
        return time.time() + self.past

    def monotonic(self) -> float:
        """Seconds."""
        return self.past


def stopped(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace a module's `time` by a stopped clock."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock
