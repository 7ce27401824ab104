"""The changes that migrations make to the marker of a store."""

from collections.abc import Sequence
from dataclasses import replace

from wsgi_store.digest import Algorithm, require_distinct
from wsgi_store.errors import ConfigError
from wsgi_store.store.marker import Marker


def migrating(marker: Marker, to: Algorithm, since: float, made: float) -> Marker:
    """Begin to migrate to another algorithm, unless that is under way; raises ConfigError."""
    if to is marker.algorithm:
        return marker  # also a finished store may hold files that were copied under old names
    if not to.collision_resistant:
        raise ConfigError(f"different files can have the same {to.value}: choose another, such as sha256")
    if marker.migrating is not None:
        raise ConfigError(f"{_under_way(marker)}: finish that first")
    if to in marker.names:
        raise ConfigError(
            f"{to.value} is a further name in this store: "
            f"drop it first (wsgi-store migrate --drop-names {to.value})"
        )
    names = (marker.algorithm, *marker.names)
    _require(to, *names)
    return Marker(to, names, marker.algorithm, since, made)


def finished(marker: Marker, one: Marker) -> Marker:
    """End the migration of which `one` is the marker, unless another one has begun since."""
    same = (marker.algorithm, marker.since) == (one.algorithm, one.since)
    return replace(marker, migrating=None) if same else marker


def more(marker: Marker, algorithms: Sequence[Algorithm], made: float) -> Marker:
    """Add further names, unless they are there; raises ConfigError."""
    if marker.migrating is not None:
        raise ConfigError(f"{_under_way(marker)}: finish that first")
    if marker.algorithm in algorithms:
        raise ConfigError(f"{marker.algorithm.value} is the primary name in this store")
    new = tuple(one for one in dict.fromkeys(algorithms) if one not in marker.names)
    _require(*marker.algorithms, *new)
    return replace(marker, names=(*marker.names, *new), made=made) if new else marker


def dropped(marker: Marker, algorithms: Sequence[Algorithm], made: float) -> Marker:
    """Drop further names, unless they are gone; raises ConfigError."""
    if marker.migrating in algorithms:
        raise ConfigError(f"{_under_way(marker)}: finish that first")
    if marker.algorithm in algorithms:
        raise ConfigError(
            f"{marker.algorithm.value} is the primary name in this store: "
            "migrate to another algorithm first (wsgi-store migrate --to sha256)"
        )
    names = tuple(one for one in marker.names if one not in algorithms)
    return replace(marker, names=names, made=made) if names != marker.names else marker


def _under_way(marker: Marker) -> str:
    assert marker.migrating is not None
    return (
        f"this store is being migrated from {marker.migrating.value} to {marker.algorithm.value} "
        f"(wsgi-store migrate --to {marker.algorithm.value})"
    )


def _require(*algorithms: Algorithm) -> None:
    """Raise ConfigError unless a store can keep names by all these algorithms."""
    try:
        for algorithm in algorithms:
            algorithm.new()  # the package that computes it may be missing
        require_distinct(algorithms)
    except ValueError as error:
        raise ConfigError(f"{error}: a store cannot tell them apart") from None
