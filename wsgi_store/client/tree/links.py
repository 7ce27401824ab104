"""Where the symbolic links of a tree lead to."""

from collections.abc import Callable

from wsgi_store.client.tree.places import TOP, Places

# Links on the way of one link. The kernel follows 40, other programs more.
MOST = 200


class Outward(Exception):
    """A link leads out of the directory, or further than can be told."""


class Links:
    """The links of a tree, as they are before the first one is made.

    `key` of a path is equal for the paths that the file system takes for one.
    """

    def __init__(self, places: Places, key: Callable[[bytes], object]) -> None:
        self._places = places
        self._key = key
        self._targets: dict[object, bytes] = {}

    def add(self, path: bytes, target: bytes) -> None:
        """Add a link."""
        self._targets[self._key(path)] = target

    def leads_out(self, path: bytes, target: bytes) -> bool:
        """Whether a link leads out of the directory, on its own or through others.

        Those are the links of the tree, and the ones that are in the directory.
        """
        try:
            self._follow(path.split(b"/")[:-1], target, (self._key(path),), [MOST])
        except Outward:
            return True
        return False

    def _follow(
        self, start: list[bytes], target: bytes, within: tuple[object, ...], left: list[int]
    ) -> list[bytes] | None:
        """Return the names that a target leads to from a directory; None if it leads round for ever.

        `within` are the links that are being followed, `left` is how many more may be.
        """
        if target.startswith(b"/"):
            raise Outward
        at = start
        known = len(at)
        for name in target.split(b"/"):
            if name in (b"", b"."):
                continue
            if name == b"..":
                # What is no directory today may become a link later.
                if not at or (len(at) > known and not self._is_directory(at)):
                    raise Outward
                at = at[:-1]
                known = min(known, len(at))
                continue
            path = b"/".join((*at, name))
            behind = self._target(path)
            if behind is None:
                at = [*at, name]
                continue
            if self._key(path) in within:
                return None
            if not left[0]:
                raise Outward
            left[0] -= 1
            found = self._follow(at, behind, (*within, self._key(path)), left)
            if found is None:
                return None
            at, known = found, 0
        return at

    def _target(self, path: bytes) -> bytes | None:
        if (target := self._targets.get(self._key(path))) is not None:
            return target
        try:
            return self._places.target(path)
        except OSError:
            return None

    def _is_directory(self, names: list[bytes]) -> bool:
        try:
            self._places.within(b"/".join(names) or TOP)
        except OSError:
            return False
        return True
