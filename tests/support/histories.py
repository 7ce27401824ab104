"""What clients asked of one blob and learned, and whether a store can have answered so."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What an operation did, as far as its client knows: whether the blob was there before and after."""

    CREATED = {(False, True)}
    HELD = {(True, True)}
    """It was there already, or was read."""
    REMOVED = {(True, False)}
    MISSING = {(False, False)}
    UPLOAD_UNANSWERED = {(False, True), (True, True), (False, False)}
    REMOVAL_UNANSWERED = {(True, False), (True, True), (False, False)}


@dataclass(frozen=True)
class Operation:
    """Something asked between two moments of one clock; it took effect between them, if at all."""

    begin: float
    end: float
    outcome: Outcome


def linearisable(operations: Iterable[Operation]) -> bool:
    """Whether the operations can have happened one by one, each at a moment between its begin and end.

    The blob is absent at first. The search is that of Wing and Gong (1993), with states seen
    before left out (Lowe 2017).
    """
    ordered = tuple(sorted(operations, key=lambda operation: operation.begin))
    # How many from the start on are done, those done beyond them, and whether the blob is there.
    states = [(0, frozenset[int](), False)]
    seen = set(states)
    while states:
        done, beyond, present = states.pop()
        if done == len(ordered):
            return True
        # Whatever begins after another one ended comes after it.
        limit = float("inf")
        for number in range(done, len(ordered)):
            operation = ordered[number]
            if operation.begin > limit:
                break
            if number in beyond:
                continue
            limit = min(limit, operation.end)
            for before, after in operation.outcome.value:
                if before is present:
                    state = _advance(done, beyond | {number}, after)
                    if state not in seen:
                        seen.add(state)
                        states.append(state)
    return False


def _advance(done: int, beyond: frozenset[int], present: bool) -> tuple[int, frozenset[int], bool]:
    while done in beyond:
        beyond -= {done}
        done += 1
    return done, beyond, present
