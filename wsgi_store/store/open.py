"""Opening a store by its URL."""

from collections.abc import Iterable, Sequence

from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.store.contract import Durability, Remote, Store

BUCKETS = ("s3", "gs", "az")
"""The schemes of URLs of object stores."""


def open_store(  # pylint: disable=too-many-arguments
    url: str,
    algorithm: Algorithm | None = None,
    durability: Durability = Durability.FULL,
    remote: Remote | None = None,
    *,
    names: Sequence[Algorithm] | None = None,
    read_only: bool = False,
    create: bool = False,
) -> Store:
    """Open the store in a directory or a bucket.

    With an algorithm or `create` a missing store is created, by default with sha256; an existing one has to
    keep that algorithm. `names` are the further algorithms that it has to keep, by default any. `read_only`
    never writes to the store, which has to exist. With an algorithm, no request goes to a bucket before the
    store is used or checked.

    Raises ConfigError for an unknown kind of URL or a missing package, WrongStore if the directory holds
    another kind of store, StoreUnavailable if it cannot be used.
    """
    scheme, separator, _ = url.partition("://")
    _require_packages("WSGI_STORE_HASH", [] if algorithm is None else [algorithm])
    _require_packages("WSGI_STORE_NAMES", names or [])
    # A kind of store is imported only when it is used: the packages of another may not be installed.
    # pylint: disable=import-outside-toplevel,cyclic-import
    if scheme in BUCKETS and separator:
        try:
            if read_only:
                from wsgi_store.store.bucket.replica import ObjectReplica

                return ObjectReplica(url, algorithm, remote or Remote("staging"), names=names, create=create)
            from wsgi_store.store.bucket.store import ObjectStore
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"WSGI_STORE_ROOT: {scheme}:// needs {error.name}: install the extra s3 (docs/deployment.md)"
            ) from error
        return ObjectStore(url, algorithm, remote or Remote("staging"), names=names, create=create)
    if separator:
        kinds = ", ".join(f"{kind}://" for kind in BUCKETS)
        raise ConfigError(f"WSGI_STORE_ROOT: unsupported scheme {scheme!r}, expected a directory or {kinds}")
    if read_only:
        from wsgi_store.store.disk.replica import LocalReplica

        return LocalReplica(url, algorithm, durability, names=names, create=create)
    from wsgi_store.store.disk.store import LocalStore

    return LocalStore(url, algorithm, durability, names=names, create=create)


def _require_packages(setting: str, algorithms: Iterable[Algorithm]) -> None:
    try:
        for algorithm in algorithms:
            algorithm.new()
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from error
