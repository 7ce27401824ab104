"""Servers and stores on a bucket, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session

from tests.support import ceph
from tests.support.kinds import BucketKind
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn
from wsgi_store.digest import Algorithm
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Remote, Store
from wsgi_store.store.open import open_store

KIND = BucketKind()
TIMEOUT = 2.0


def environ(directory: Path, endpoint: str | None = None) -> dict[str, str]:
    """The settings of a server that stages below a directory and uses the bucket's part of that name."""
    ceph.ensure()
    settings = {
        "WSGI_STORE_ROOT": KIND.url(directory / "store"),
        "WSGI_STORE_S3_STAGING": str(directory / "store"),
        "WSGI_STORE_S3_TIMEOUT": f"{TIMEOUT}s",
    }
    return settings if endpoint is None else settings | {"WSGI_STORE_S3_ENDPOINT": endpoint}


@contextmanager
def serving(directory: Path, *arguments: str, endpoint: str | None = None, **env: str) -> Iterator[Server]:
    """The shipped gunicorn on a bucket."""
    with gunicorn(directory, *arguments, **environ(directory, endpoint), **env) as server:
        yield server


def store(directory: Path) -> Store:
    """The store of such a server, opened without the server."""
    return KIND.open(directory / "store", Algorithm.SHA256)


def store_behind(relay: Relay, directory: Path, timeout: float) -> Store:
    """A store in the bucket, reached through a relay."""
    remote = Remote(str(directory), endpoint=relay.url, timeout=timeout)
    return open_store(KIND.url(directory), Algorithm.SHA256, Durability.NONE, remote)


def staging_behind(relay: Relay, directory: Path, timeout: float) -> Staging:
    """The staging of such a store."""
    return Staging(store_behind(relay, directory, timeout), durability=Durability.NONE)


def held(directory: Path) -> set[str]:
    """The hashes in such a server's store."""
    return {blob.digest.hex for blob in store(directory).iterate()}


def s3() -> Any:
    """An S3 client independent of the project."""
    return botocore.session.get_session().create_client("s3", endpoint_url=ceph.cluster().endpoint)


def unfinished(root: Path) -> dict[str, int]:
    """The bytes of unfinished uploads in parts, by key below a store's root."""
    client = s3()
    prefix = f"{str(root)[1:]}/"
    found = {}
    for one in client.list_multipart_uploads(Bucket=ceph.BUCKET, Prefix=prefix).get("Uploads", ()):
        listed = client.list_parts(Bucket=ceph.BUCKET, Key=one["Key"], UploadId=one["UploadId"])
        found[one["Key"].removeprefix(prefix)] = sum(part["Size"] for part in listed.get("Parts", ()))
    return found
