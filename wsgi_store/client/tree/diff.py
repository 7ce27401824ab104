"""The differences of two trees."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wsgi_store.client.tree.entry import Entry, place


@dataclass(frozen=True, slots=True)
class Change:
    """A path that two trees have different things at."""

    path: str
    before: Entry | None
    """None if it was added."""
    after: Entry | None
    """None if it was removed."""

    @property
    def what(self) -> tuple[str, ...]:
        """What changed of a path that both trees have: of kind, mode, content, time and target.

        Hashes by two algorithms cannot be compared: then it is algorithm, unless the sizes differ.
        """
        if self.before is None or self.after is None:
            return ()
        if self.before.kind is not self.after.kind:
            return ("kind",)
        return tuple(_changes(self.before, self.after))


def _changes(before: Entry, after: Entry) -> Iterator[str]:
    if before.mode != after.mode:
        yield "mode"
    if before.hash is not None and after.hash is not None and before.hash != after.hash:
        comparable = before.hash.algorithm is after.hash.algorithm
        yield "content" if comparable or before.size != after.size else "algorithm"
    if before.modified != after.modified:
        yield "time"
    if before.target != after.target:
        yield "target"


def changes(before: Iterable[Entry], after: Iterable[Entry]) -> Iterator[Change]:
    """Yield the differences of two trees, in the order of a tree; raises what reading them raises."""
    old, new = iter(before), iter(after)
    one, other = next(old, None), next(new, None)
    while one is not None or other is not None:
        if other is None or (one is not None and place(one.path) < place(other.path)):
            assert one is not None
            yield Change(one.path, one, None)
            one = next(old, None)
        elif one is None or place(other.path) < place(one.path):
            yield Change(other.path, None, other)
            other = next(new, None)
        else:
            if one != other:
                yield Change(one.path, one, other)
            one, other = next(old, None), next(new, None)
