"""The operations of clients on one blob and their answers, and whether a store can have given them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """The effect of an operation as its client knows it: whether the blob was there before and after."""

    CREATED = {(False, True)}
    HELD = {(True, True)}
    """It was there already, or was read."""
    UPLOADED = {(False, True), (True, True)}
    """It was uploaded, whether or not it was there before."""
    REMOVED = {(True, False)}
    MISSING = {(False, False)}
    UPLOAD_UNANSWERED = {(False, True), (True, True), (False, False)}
    REMOVAL_UNANSWERED = {(True, False), (True, True), (False, False)}


@dataclass(frozen=True)
class Operation:
    """An operation between two times of one clock; any effect happened between them."""

    begin: float
    end: float
    outcome: Outcome


def linearisable(operations: Iterable[Operation]) -> bool:
    """Whether the operations can have happened one by one, each between its begin and its end.

    The blob is absent at first. The search is that of Wing and Gong (1993), which skips states
    seen before (Lowe 2017).
    """
    ordered = tuple(sorted(operations, key=lambda operation: operation.begin))
    # How many of the first operations are done, which later ones are done, and whether the blob is there.
    states = [(0, frozenset[int](), False)]
    seen = set(states)
    while states:
        done, beyond, present = states.pop()
        if done == len(ordered):
            return True
        # An operation that begins after another one ended comes after it.
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
