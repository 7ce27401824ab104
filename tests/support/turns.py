"""Threads that take turns at their system calls on files, in an order that a seed decides.

Real processes meet at the critical moments of a store once in a million operations; here every call is
such a moment, and a seed repeats a round exactly.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

# Calls that look at names or change them; a thread can lose its turn before each.
LOOKS = ("open", "stat", "lstat", "readlink", "listdir", "scandir")
CHANGES = ("link", "unlink", "rename", "replace", "symlink", "mkdir", "rmdir", "utime", "fchmod", "fsync")
# Calls on the bytes of a file, before which a thread that appends to a shared one can lose its turn.
APPENDING = ("fstat", "pread"), ("write", "pwrite", "ftruncate", "fdatasync")
SECONDS = 20


class Killed(BaseException):
    """The process of this thread was killed with -9."""


class Stuck(BaseException):
    """Every thread waits for a lock that another one holds."""


class Actor(threading.Thread):
    """One of the threads that take turns, which stands for a process of its own."""

    def __init__(self, turns: "Turns", act: Callable[[], object], kill_at: int | None) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Semaphore(0)
        self.waits = False
        self.ended = False
        self.killed = False
        self.result: object = None
        self.error: BaseException | None = None
        self._turns = turns
        self._act = act
        self._kill_at = kill_at
        self._changes = 0

    def run(self) -> None:
        """Act when it is this thread's turn."""
        self.turn.acquire()  # pylint: disable=consider-using-with  # the one before it releases it
        try:
            self.result = self._act()
        except BaseException as error:  # pylint: disable=broad-exception-caught  # raised by `Turns.run`
            self.error = error
        finally:
            self.ended = True
            self._turns.pass_on(self)

    def live(self, changes: bool) -> None:
        """Count the changes; raises Killed instead of the one that is never made, and of all after it."""
        if not changes:
            return
        self._changes += 1
        if self._changes == self._kill_at:
            self.killed = True
            self._turns.at_kill()
        if self.killed:
            raise Killed


class Turns:
    """Runs acts at once, one call of one of them at a time. `choice` decides whose call is next.

    `more` are further calls that look and that change something. `rates` are how often the turn may change.
    """

    def __init__(
        self,
        choice: Random,
        at_kill: Callable[[], object] = lambda: None,
        more: tuple[Sequence[str], Sequence[str]] = ((), ()),
        rates: Sequence[float] = (0.03, 0.1, 0.3, 1.0),
    ) -> None:
        self._calls = (*LOOKS, *more[0], *CHANGES, *more[1])
        self._changes = {*CHANGES, *more[1]}
        self.moment = 0
        """A clock: how many calls were made."""
        self.at_kill = at_kill
        """Called in the moment in which an act is killed."""
        self._choice = choice
        # How often the turn changes: a bug may need one act to be left in the middle for long.
        self._rate = choice.choice(rates)
        self._actors: list[Actor] = []
        self._done = threading.Semaphore(0)
        self._stuck = False
        self.killed = 0
        """How many acts were killed."""
        self._calls_made: list[tuple[int, Actor, str, tuple[object, ...]]] = []

    @property
    def trace(self) -> list[str]:
        """The calls in the order in which they were made, with the number of the act."""
        return [
            f"{moment}: {self._actors.index(actor)} {name}({', '.join(map(str, arguments))})"
            for moment, actor, name, arguments in self._calls_made
        ]

    def tick(self) -> int:
        """Return a moment that is later than all before."""
        self.moment += 1
        return self.moment

    def run(self, acts: Sequence[Callable[[], Any]], kills: Mapping[int, int] | None = None) -> list[Any]:
        """Run all acts to their ends and return their results, None for those that were killed.

        `kills` has the numbers of the acts to kill, each with the change, counted from 1, that it does not
        get to. Raises what an act raised, and Stuck if all wait for each other.
        """
        kill_at = kills or {}
        self._actors = [Actor(self, act, kill_at.get(number)) for number, act in enumerate(acts)]
        with self._patched():
            for actor in self._actors:
                actor.start()
            self._choice.choice(self._actors).turn.release()
            # pylint: disable-next=consider-using-with  # the last actor releases it
            assert self._done.acquire(timeout=SECONDS), "an actor waits outside its calls"
        for actor in self._actors:
            actor.join()
        for actor in self._actors:
            # What follows a kill may hide it.
            if actor.error is not None and not actor.killed:
                raise actor.error
            actor.error = None  # its frames keep files open
        self.killed = sum(actor.killed for actor in self._actors)
        return [actor.result for actor in self._actors]

    def pass_on(self, actor: Actor) -> None:
        """Give the turn to another actor, or keep it."""
        self.moment += 1
        live = [one for one in self._actors if not one.ended]
        if not live:
            self._done.release()
            return
        if not actor.waits:
            for one in live:  # this call may have freed a lock
                one.waits = False
        ready = [one for one in live if not one.waits]
        if not ready:
            self._stuck, ready = True, live
        if actor in ready and not actor.ended and self._choice.random() > self._rate:
            return
        chosen = self._choice.choice(ready)
        if chosen is actor:
            return
        chosen.turn.release()
        if not actor.ended:
            actor.turn.acquire()  # pylint: disable=consider-using-with  # another actor releases it

    def _call(self, real: Callable[..., Any], changes: bool, *arguments: Any, **options: Any) -> Any:
        actor = threading.current_thread()
        if isinstance(actor, Actor):
            actor.live(changes)
            if not actor.killed:
                self.pass_on(actor)
            self._trace(actor, real, *arguments)
        return real(*arguments, **options)

    def _flock(self, real: Callable[[int, int], None], fd: int, operation: int) -> None:
        actor = threading.current_thread()
        if not isinstance(actor, Actor):
            real(fd, operation)
            return
        actor.live(changes=not operation & fcntl.LOCK_UN)
        self.pass_on(actor)
        if operation & (fcntl.LOCK_NB | fcntl.LOCK_UN):
            self._trace(actor, real, fd, operation)
            real(fd, operation)
            return
        while True:
            try:
                real(fd, operation | fcntl.LOCK_NB)
                self._trace(actor, real, fd, operation)
                return
            except BlockingIOError:
                actor.waits = True
                self.pass_on(actor)
                if self._stuck:
                    raise Stuck from None

    def _trace(self, actor: Actor, real: Callable[..., Any], *arguments: object) -> None:
        self._calls_made.append((self.moment, actor, real.__name__, arguments))

    def _sleep(self, real: Callable[[float], None], seconds: float) -> None:
        actor = threading.current_thread()
        if not isinstance(actor, Actor):
            real(seconds)
            return
        actor.live(changes=False)
        others = [one for one in self._actors if not one.ended and one is not actor and not one.waits]
        if others:
            self._choice.choice(others).turn.release()
            actor.turn.acquire()  # pylint: disable=consider-using-with  # another actor releases it
        else:
            real(seconds)
            self.pass_on(actor)

    @contextmanager
    def _patched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in self._calls:
                self._patch(patch, os, name, self._call, name in self._changes)
            self._patch(patch, fcntl, "flock", self._flock)
            self._patch(patch, time, "sleep", self._sleep)
            yield

    @staticmethod
    def _patch(
        patch: pytest.MonkeyPatch, module: Any, name: str, call: Callable[..., Any], *more: object
    ) -> None:
        real = getattr(module, name)

        def instead(*arguments: Any, **options: Any) -> Any:
            return call(real, *more, *arguments, **options)

        patch.setattr(module, name, instead)
