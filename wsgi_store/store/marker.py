"""The marker: a small file that says by which algorithms a store names its blobs."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from wsgi_store.digest import Algorithm, require_distinct
from wsgi_store.errors import ConfigError, WrongStore

NAME = "store.json"
LAYOUT = "ab/abcdef"
# Versions that know only one name of a blob refuse a store with this layout.
NAMES_LAYOUT = "ab/abcdef+names"
# The algorithm of a new store for which none is chosen.
DEFAULT = Algorithm.SHA256


@dataclass(frozen=True, slots=True)
class Marker:
    """By which algorithms a store names its blobs; times are in seconds since the epoch."""

    algorithm: Algorithm
    """That of the primary names."""
    names: tuple[Algorithm, ...] = ()
    """Those of the further names."""
    migrating: Algorithm | None = None
    """The old algorithm, one of `names`, until every blob has a primary name by the new one."""
    since: float | None = None
    """When that migration began, or the last one."""
    made: float | None = None
    """When the store was made; None if that is the time of the marker."""

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """All of them, the primary one first."""
        return (self.algorithm, *self.names)

    @property
    def listed(self) -> Algorithm:
        """The algorithm by which every blob is found."""
        return self.migrating or self.algorithm

    def text(self) -> bytes:
        """Return the content of the marker, which is that of version 0.1.0 for a store without names.

        Raises ConfigError if two algorithms have hashes of one length.
        """
        try:
            require_distinct(self.algorithms)
        except ValueError as error:
            raise ConfigError(f"WSGI_STORE_NAMES: {error}") from None
        marker: dict[str, object] = {"algorithm": self.algorithm.value, "layout": LAYOUT}
        if self.names:
            marker |= {"layout": NAMES_LAYOUT, "names": [one.value for one in self.names], "made": self.made}
            marker |= {"since": self.since} if self.since is not None else {}
            marker |= {"migrating": self.migrating.value} if self.migrating else {}
        return f"{json.dumps(marker)}\n".encode()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the settings say about a store; None accepts what the store has."""

    algorithm: Algorithm | None = None
    names: tuple[Algorithm, ...] | None = None
    create: bool = False
    """Whether a missing store is created."""

    @classmethod
    def of(cls, algorithm: Algorithm | None, names: Sequence[Algorithm] | None, create: bool) -> Self:
        """Return what is wanted; an algorithm implies `create`."""
        return cls(algorithm, None if names is None else tuple(names), create or algorithm is not None)

    @property
    def new(self) -> Marker:
        """The marker of a new store."""
        return Marker(self.algorithm or DEFAULT, self.names or ())

    def require(self, marker: Marker, place: str) -> None:
        """Raise WrongStore unless the store has what is wanted."""
        if self.algorithm is not None and self.algorithm not in marker.algorithms:
            ways = [f"set WSGI_STORE_HASH={marker.algorithm.value}", "WSGI_STORE_ROOT to another place"]
            # What `migrate` takes.
            sizes = {kept.size for kept in marker.algorithms}
            if self.algorithm.collision_resistant and self.algorithm.size not in sizes:
                ways.append(f"run `wsgi-store migrate --to {self.algorithm.value}`")
            raise WrongStore(
                f"{place} holds {marker.algorithm.value} digests, not {self.algorithm.value}: "
                f"{', or '.join(ways)}"
            )
        if self.names is not None:
            self._require_names(self.names, marker, place)

    def _require_names(self, names: tuple[Algorithm, ...], marker: Marker, place: str) -> None:
        kept = marker.algorithms
        wanted = [marker.algorithm, *(one for one in names if one is not marker.algorithm)]
        # A migration exchanges the primary algorithm; the settings may still be those from before.
        if set(kept) in (set(wanted), {*names, self.algorithm}):
            return
        told = _joined(marker.names) or "none"
        try:
            require_distinct(wanted)
        except ValueError as error:
            raise WrongStore(f"{place} keeps {_joined(kept)}: {error}: set WSGI_STORE_NAMES={told}") from None
        # In this order a name that takes the place of another one of its length can be added.
        options = [
            f"`wsgi-store migrate --{option} {_joined(algorithms)}`"
            for option, algorithms in (
                ("drop-names", [one for one in kept if one not in wanted]),
                ("add-names", [one for one in wanted if one not in kept]),
            )
            if algorithms
        ]
        raise WrongStore(
            f"{place} keeps other names: set WSGI_STORE_NAMES={told}, or run {' and '.join(options)}"
        )


def read(content: bytes, place: str) -> Marker:
    """Parse a marker; raises WrongStore if it is not a valid one."""
    try:
        marker = json.loads(content)
        layout = marker["layout"]
        found = Marker(Algorithm(marker["algorithm"]))
        if layout == NAMES_LAYOUT:
            found = _with_names(found.algorithm, marker)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WrongStore(f"{place}/{NAME} is not a valid store marker") from None
    if layout not in (LAYOUT, NAMES_LAYOUT):
        raise WrongStore(f"{place} has the layout {layout!r}, which this version cannot read")
    try:
        require_distinct(found.algorithms)
        for algorithm in found.algorithms:
            algorithm.new()
    except (ValueError, ConfigError) as error:
        raise WrongStore(f"{place}/{NAME}: {error}") from error
    return found


def _with_names(algorithm: Algorithm, marker: dict[str, object]) -> Marker:
    """Read a marker with names; raises ValueError and others."""
    listed, old = marker["names"], marker.get("migrating")
    if not isinstance(listed, list) or not listed:
        raise ValueError("no names")
    names = tuple(map(Algorithm, listed))
    migrating = None if old is None else names[names.index(Algorithm(old))]
    since, made = (
        None if marker.get(key) is None else float(str(marker.get(key))) for key in ("since", "made")
    )
    return Marker(algorithm, names, migrating, since, made)


def _joined(algorithms: Iterable[Algorithm]) -> str:
    return ",".join(algorithm.value for algorithm in algorithms)


def check_unmarked(place: str, names: Iterable[str], algorithm: Algorithm) -> None:
    """Raise WrongStore if `names` include blobs of another algorithm, whose marker is missing."""
    blob = re.compile("([0-9a-f]{2})/\\1[0-9a-f]{30,}")
    for name in filter(blob.fullmatch, names):
        if len(name) != 2 * algorithm.size + 3:
            raise WrongStore(
                f"{place} has no {NAME} and holds {name}, "
                f"which is not a {algorithm.value} digest: set WSGI_STORE_HASH "
                "to the algorithm of its files, or WSGI_STORE_ROOT to another place"
            )
