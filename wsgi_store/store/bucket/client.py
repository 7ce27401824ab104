"""A bucket, and the obstore clients with which a process uses it."""

import os
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from wsgi_store.errors import WrongStore
from wsgi_store.store.bucket.endpoint import endpoint_of, host_of_bucket, parse_place
from wsgi_store.store.bucket.failures import Failure
from wsgi_store.store.bucket.uplink import Uplink
from wsgi_store.store.contract import Remote

if TYPE_CHECKING:
    from obstore import Attributes, GetResult, ObjectMeta, PutResult, UpdateVersion

Client: TypeAlias = S3Store | GCSStore | AzureStore

# Seconds.
MAX_CONNECT_TIMEOUT = 3.0
# obstore limits the time of a whole request, which would cut long transfers. A transfer that stands
# still ends by the read timeout.
NO_LIMIT = timedelta(days=30)
BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2}
# The processes that have used obstore: this one, and those it was forked from.
_USERS: set[int] = set()


class Bucket:
    """A bucket, or the part of it below a prefix.

    Raises ConfigError for a malformed URL or endpoint. No request is sent before the first use.
    """

    def __init__(self, url: str, remote: Remote) -> None:
        self.scheme, self.name, self.prefix = parse_place(url)
        self.endpoint = endpoint_of(remote) if self.scheme == "s3" else None
        self.path_style = remote.path_style
        self.timeout = remote.timeout
        self.uplink = Uplink(remote.timeout)
        self._clients: dict[int, Client] = {}

    @property
    def client(self) -> Client:
        """The client of this process."""
        return self._client(retries=3)

    @property
    def once(self) -> Client:
        """A client that sends a request once: a repeated DELETE may hit an object added in between."""
        return self._client(retries=0)

    def _client(self, retries: int) -> Client:
        client = self._clients.get(retries)
        if client is None:
            _USERS.add(os.getpid())
            client = self._clients[retries] = self._connect(retries)
        if len(_USERS) > 1 or os.getpid() not in _USERS:
            # fork(2) does not copy the threads of obstore's runtime: a request would never end.
            raise WrongStore("an object store was used before this process was forked")
        return client

    def _connect(self, retries: int) -> Client:
        limit = timedelta(seconds=self.timeout)
        common: dict[str, Any] = {
            "prefix": self.prefix,
            "client_options": {
                "allow_http": (self.endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=min(MAX_CONNECT_TIMEOUT, self.timeout)),
                "read_timeout": limit,
                "timeout": NO_LIMIT,
            },
            # Retries end when one attempt has taken its time, so an engine that hangs is asked once.
            "retry_config": {"max_retries": retries, "retry_timeout": limit, "backoff": BACKOFF},
        }
        try:
            if self.scheme == "gs":
                return GCSStore(self.name, **common)
            if self.scheme == "az":
                return AzureStore(self.name, **common)
            if self.endpoint:
                path_style = self.path_style
                common["endpoint"] = self.endpoint if path_style else host_of_bucket(self.endpoint, self.name)
            return S3Store(
                self.name,
                virtual_hosted_style_request=not self.path_style,
                disable_bulk_delete=True,  # some engines do not support it
                **common,
            )
        except BaseError as error:
            raise WrongStore(f"the object store cannot be used: {Failure(error)}") from error

    def describe(self, key: str) -> "GetResult":
        """Return what is known of an object, without its bytes; raises FileNotFoundError and BaseError."""
        try:
            return obstore.get(self.client, key, options={"head": True})
        except PermissionDeniedError:
            # The response to HEAD has no body that says whether the keys or the clock are wrong.
            return obstore.get(self.client, key)

    def replace(
        self,
        key: str,
        data: bytes,
        there: "ObjectMeta | PutResult",
        attributes: "Attributes | None" = None,
    ) -> "PutResult | None":
        """Replace an object; None if it is no longer the one that was described. Raises BaseError."""
        etag = str(there["e_tag"])
        # The quotes are part of the syntax (RFC 9110 section 8.8.3); Ceph 16 takes them for part of the tag.
        for spelling in (etag, etag.strip('"')):
            condition: UpdateVersion = {"e_tag": spelling}
            if there["version"] is not None:  # Google compares versions
                condition["version"] = there["version"]
            # Also where the object is missing: obstore takes the 404 of AWS for 412.
            with suppress(PreconditionError):
                return obstore.put(self.client, key, data, mode=condition, attributes=attributes)
        return None
