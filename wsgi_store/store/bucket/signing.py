"""Signed URLs of objects (AWS Signature Version 4)."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.endpoint import host_of_bucket, region
from wsgi_store.store.bucket.failures import Failure

if TYPE_CHECKING:
    from botocore.credentials import Credentials

DEFAULT_REGION = "us-east-1"


class Signer:
    """Signs URLs with the keys that botocore finds: in the environment, a profile, or a machine's role."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._region = region() or DEFAULT_REGION
        endpoint = bucket.endpoint or f"https://s3.{self._region}.amazonaws.com"
        endpoint = endpoint.rstrip("/")
        address = f"{endpoint}/{bucket.name}" if bucket.path_style else host_of_bucket(endpoint, bucket.name)
        self._base = "/".join(filter(None, [address, quote(bucket.prefix or "")]))

    @cached_property
    def _keys(self) -> "Credentials | None":
        # Imported only where URLs are signed: it needs much more memory than obstore.
        import botocore.session  # pylint: disable=import-outside-toplevel

        return botocore.session.get_session().get_credentials()

    def sign(self, key: str, seconds: int, parameters: Mapping[str, str]) -> str | None:
        """Return a URL that downloads an object for `seconds`; None if there are no keys.

        The parameters set header fields of the response, `response-content-type` for instance. Raises
        StoreUnavailable if keys that expire cannot be renewed.
        """
        from botocore.auth import S3SigV4QueryAuth  # pylint: disable=import-outside-toplevel
        from botocore.awsrequest import AWSRequest  # pylint: disable=import-outside-toplevel
        from botocore.exceptions import BotoCoreError  # pylint: disable=import-outside-toplevel

        try:
            if self._keys is None:
                return None
            request = AWSRequest("GET", f"{self._base}/{quote(key)}", params=dict(parameters))
            S3SigV4QueryAuth(self._keys.get_frozen_credentials(), "s3", self._region, seconds).add_auth(
                request
            )
            return str(request.prepare().url)
        except BotoCoreError as error:
            raise StoreUnavailable("cannot sign a URL") from Failure(error)
