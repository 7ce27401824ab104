"""Multipart uploads that were neither completed nor aborted, which obstore cannot list."""

import re
import time
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from wsgi_store.store.bucket.engine import PROBES
from wsgi_store.store.bucket.litter import MIN_AGE
from wsgi_store.store.bucket.lock import locked
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.s3 import asking, connect

PAGE = 1000
# What engines answer if an upload was completed or aborted meanwhile; Ceph 16 the second.
ENDED = {"NoSuchUpload", "NoSuchKey"}


def abandoned(
    bucket: MarkedBucket, key_of_blob: re.Pattern[str], before: float, *, remove: bool
) -> Iterator[tuple[str | None, int, float]]:
    """Yield hash, bytes and last time of the uploads that got no part since `before`, after aborting each.

    Only uploads below the prefix count, to keys that match or of test objects, which have no hash. Raises
    StoreUnavailable.
    """
    tried = min(before, time.time() - MIN_AGE)
    with asking("cannot list unfinished uploads"):
        client = connect(bucket)
        prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        pages = client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket.name, Prefix=prefix, PaginationConfig={"PageSize": PAGE}
        )
        for upload in (upload for page in pages for upload in page.get("Uploads", ())):
            key = upload["Key"].removeprefix(prefix)
            match = key_of_blob.fullmatch(key)
            if match is None and not key.startswith(f"{PROBES}/"):
                continue
            if upload["Initiated"].timestamp() >= (before if match else tried):
                continue
            names = {"Bucket": bucket.name, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            try:
                parts = _parts(client, names)
                modified = max([upload["Initiated"].timestamp(), *(since for since, _ in parts)])
                if modified >= before:
                    continue
                if remove:
                    bucket.require_writable()
                    # Completing an upload holds the lock, so it is not aborted at the same time.
                    with locked(bucket, match["hash"] if match else key.rpartition("/")[2]):
                        if _parts(client, names) != parts:
                            continue
                        client.abort_multipart_upload(**names)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ENDED:
                    raise
                continue
            yield match and match["hash"], sum(size for _, size in parts), modified


def _parts(client: Any, names: dict[str, str]) -> list[tuple[float, int]]:
    """Return the time and the size of each part that has arrived."""
    pages = client.get_paginator("list_parts").paginate(**names)
    parts = (part for page in pages for part in page.get("Parts", ()))
    return [(part["LastModified"].timestamp(), part["Size"]) for part in parts]
