"""Copying an object to another key without moving its bytes through this machine."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from wsgi_store.errors import BlobNotFound
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.s3 import asking
from wsgi_store.store.bucket.version import Version

# Bytes up to which an object is copied in one request. S3 allows 5 GiB, but the lock has to outlast it.
WHOLE_MAX = 64 << 20
# Bytes of a part; more if there would be too many.
PART = 64 << 20
MAX_PARTS = 10_000
AT_ONCE = 4
# What engines answer if the source is not as it has to be.
CHANGED = {"PreconditionFailed", "NoSuchKey", "412", "404"}


class Copier:
    """Copies objects within a bucket; any number of threads may use it."""

    def __init__(self, bucket: Bucket, client: Any) -> None:
        self._bucket = bucket
        self._prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        self._client = client

    @contextmanager
    def copying(
        self, source: str, there: Version, target: str, attributes: dict[str, str]
    ) -> Iterator[Callable[[], None]]:
        """Yield a function that makes the copy of an object appear; what may take long is done before.

        `there` is what has to be under the key `source`; if it is not, this raises BlobNotFound. Raises
        StoreUnavailable.
        """
        place = {"Bucket": self._bucket.name, "Key": self._prefix + target}
        origin = {
            "CopySource": {"Bucket": self._bucket.name, "Key": self._prefix + source},
            "CopySourceIfMatch": (there.tag or "").strip('"'),
        }
        with _copying():
            if there.size <= WHOLE_MAX:
                yield lambda: self._whole(place, origin, attributes)
                return
            upload = self._client.create_multipart_upload(**place, Metadata=attributes)
            place["UploadId"] = upload["UploadId"]
            done = False

            def complete() -> None:
                nonlocal done
                self._complete(place, parts)
                done = True

            try:
                parts = self._parts(place, origin, there.size)
                yield complete
            finally:
                if not done:
                    # What is left behind is collected.
                    with suppress(BotoCoreError, ClientError):
                        self._client.abort_multipart_upload(**place)

    def _whole(self, place: dict[str, Any], origin: dict[str, Any], attributes: dict[str, str]) -> None:
        self._client.copy_object(**place, **origin, MetadataDirective="REPLACE", Metadata=attributes)

    def _parts(self, place: dict[str, Any], origin: dict[str, Any], size: int) -> list[dict[str, Any]]:
        """Copy an object in parts; returns their numbers and tags."""
        step = max(PART, -(-size // MAX_PARTS))

        def copy(number: int) -> dict[str, Any]:
            first = (number - 1) * step
            span = f"bytes={first}-{min(first + step, size) - 1}"
            copied = self._client.upload_part_copy(**place, **origin, PartNumber=number, CopySourceRange=span)
            return {"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]}

        with ThreadPoolExecutor(AT_ONCE, "wsgi_store-copy") as pool:
            return list(pool.map(copy, range(1, -(-size // step) + 1)))

    def _complete(self, place: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        self._client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})


@contextmanager
def _copying() -> Iterator[None]:
    with asking("cannot copy the blob"):
        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] in CHANGED:
                raise BlobNotFound("the blob was removed or replaced while it was copied") from error
            raise
