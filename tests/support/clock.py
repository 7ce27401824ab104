"""A clock that a test moves on."""

import time
from types import ModuleType

import pytest


class Clock:
    """Stands still until `past` is changed; takes the place of the module `time`."""

    def __init__(self) -> None:
        self.past = 0.0
        """Seconds since the clock was stopped."""

    def time(self) -> float:
        """The time of day: files are stamped with the real one."""
        return time.time() + self.past

    def monotonic(self) -> float:
        """Seconds."""
        return self.past


def stopped(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give a module a clock of its own."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock
