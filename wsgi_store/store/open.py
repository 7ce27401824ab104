"""Opening a store by its URL."""

from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.store.contract import Durability, Remote, Store

BUCKETS = ("s3", "gs", "az")
"""The schemes of URLs of object stores."""


def open_store(
    url: str,
    algorithm: Algorithm | None = None,
    durability: Durability = Durability.FULL,
    remote: Remote | None = None,
    *,
    read_only: bool = False,
) -> Store:
    """Open the store at a directory, making it when it is not there, or in a bucket.

    Without an algorithm, that of the store that is there; none is made, nor is one that is
    `read_only`, to which nothing is ever written. Otherwise a bucket is first
    asked when the store is used or checked, by the process that does so.

    Raises ConfigError for a kind of URL unknown here, WrongStore when the directory holds
    another kind of store, StoreUnavailable when it cannot be used.
    """
    scheme, separator, _ = url.partition("://")
    # Each kind of store is imported when it is used: what another one needs may not be there.
    # pylint: disable=import-outside-toplevel,cyclic-import
    if scheme in BUCKETS and separator:
        try:
            if read_only:
                from wsgi_store.store.bucket.replica import ObjectReplica

                return ObjectReplica(url, algorithm, remote or Remote("staging"))
            from wsgi_store.store.bucket.store import ObjectStore
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"WSGI_STORE_ROOT: {scheme}:// needs {error.name}: install the extra s3 (docs/deployment.md)"
            ) from error
        return ObjectStore(url, algorithm, remote or Remote("staging"))
    if separator:
        kinds = ", ".join(f"{kind}://" for kind in BUCKETS)
        raise ConfigError(
            f"WSGI_STORE_ROOT: there is no kind of store {scheme!r}, give a directory or {kinds}"
        )
    if read_only:
        from wsgi_store.store.disk.replica import LocalReplica

        return LocalReplica(url, algorithm, durability)
    from wsgi_store.store.disk.store import LocalStore

    return LocalStore(url, algorithm, durability)
