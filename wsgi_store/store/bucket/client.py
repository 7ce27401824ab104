"""A bucket of an object store: a client for each process, its failures translated, locks, signed URLs."""

import hashlib
import hmac
import ipaddress
import os
import random
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from wsgi_store.errors import ConfigError, StoreUnavailable, WrongStore
from wsgi_store.store.bucket.uplink import Uplink
from wsgi_store.store.contract import Remote

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta, UpdateVersion

Client: TypeAlias = S3Store | GCSStore | AzureStore

# What obstore reads too, most particular first.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
ENDPOINT = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?(?:/[!-~]*)?", re.ASCII)
CONNECT = 3.0
# obstore's limit to a whole request would cut long transfers; what stands still ends by another.
NO_LIMIT = timedelta(days=30)
BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2}
LOCKS = ".locks"
PAUSE = 0.02
# The processes that have used obstore: this one, and those it was forked from.
_USERS: set[int] = set()


class Failure(Exception):
    """What the engine answered, or what became of the way to it, in one line for the log."""

    def __init__(self, error: Exception) -> None:
        text, _, debug = str(error).partition("\n\nDebug source")
        status = re.search(r"status code: (\d{3})", text)
        self.status = int(status[1]) if status else 0
        said = re.search(r"<Code>(\w+)</Code>", text) or re.search(
            r'message: "([^"\n]+)"|\b(TimedOut)\b', debug
        )
        line = re.sub(r"\s+", " ", re.sub(r": *(<\?xml.*)?$", "", text, flags=re.DOTALL))
        self._code = (said[1] or said[2]) if said else None
        self._unknown = isinstance(error, NotImplementedError) or self.status == 501
        super().__init__(f"{line} ({self._code})" if said else line)

    @property
    def lasting(self) -> bool:
        """Whether the request was refused for what it is: the keys, the bucket. Clocks are put right."""
        return (
            300 <= self.status < 500
            and self.status not in (408, 429)
            and self._code != "RequestTimeTooSkewed"
        )

    @property
    def refusal(self) -> str | None:
        """What a request was refused for that no repetition helps, in one word."""
        if self.lasting or self._unknown:
            return self._code or str(self.status or "NotImplemented")
        return None


class Held(Exception):
    """Another one has the lock."""


@contextmanager
def asking(doing: str) -> Iterator[None]:
    """Translate what obstore raises into StoreUnavailable, which has a Failure for its cause."""
    try:
        yield
    # An absent object is an OSError; where it is an answer the caller has caught it.
    except (BaseError, FileNotFoundError, NotImplementedError) as error:
        # Neither the message nor the chain shows keys, hosts and bodies to a client.
        raise StoreUnavailable(doing) from Failure(error)


def _endpoint(remote: Remote) -> str | None:
    """Where the engine is, None for AWS; raises ConfigError for what obstore would panic at."""
    given = {"WSGI_STORE_S3_ENDPOINT": remote.endpoint} | {name: os.environ.get(name) for name in ENDPOINTS}
    for name, url in given.items():
        if url and not _is_endpoint(url):
            expected = "http://host or https://host, and a port perhaps"
            raise ConfigError(f"{name}: expected {expected}, not {url!r}")
        if url:
            return url
    return None


def _is_endpoint(url: str) -> bool:
    match = ENDPOINT.fullmatch(url)
    if match is None or int(match[2] or 0) > 0xFFFF:
        return False
    if re.fullmatch(r"\[.*|[0-9.]+", match[1]):
        with suppress(ValueError):
            return bool(ipaddress.ip_address(match[1].strip("[]")))
        return False
    return True


class Bucket:
    """A bucket, or what lies in it below a prefix; obstore's runtime is left to the process that asks."""

    def __init__(self, url: str, remote: Remote) -> None:
        self.scheme, _, rest = url.partition("://")
        self.name, _, prefix = rest.partition("/")
        prefix = prefix.strip("/")
        right = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", self.name) and prefix.isprintable()
        if not right or (prefix and {"", ".", ".."} & {*prefix.split("/")}):
            raise ConfigError(f"WSGI_STORE_ROOT: expected {self.scheme}://bucket/prefix, not {url!r}")
        self.prefix = prefix or None
        self.endpoint = _endpoint(remote) if self.scheme == "s3" else None
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
        """A client that sends a request once: a deletion repeated may hit what was added between."""
        return self._client(retries=0)

    def _client(self, retries: int) -> Client:
        client = self._clients.get(retries)
        if client is None:
            _USERS.add(os.getpid())
            client = self._clients[retries] = self._connect(retries)
        if len(_USERS) > 1 or os.getpid() not in _USERS:
            # obstore's threads are not copied by fork(2): it would wait for them for ever.
            raise WrongStore("an object store was used before this process was forked")
        return client

    def _connect(self, retries: int) -> Client:
        limit = timedelta(seconds=self.timeout)
        common: dict[str, Any] = {
            "prefix": self.prefix,
            "client_options": {
                "allow_http": (self.endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=min(CONNECT, self.timeout)),
                "read_timeout": limit,
                "timeout": NO_LIMIT,
            },
            # No longer than one attempt may take, so that whoever hangs is asked once.
            "retry_config": {"max_retries": retries, "retry_timeout": limit, "backoff": BACKOFF},
        }
        try:
            if self.scheme == "gs":
                return GCSStore(self.name, **common)
            if self.scheme == "az":
                return AzureStore(self.name, **common)
            if self.endpoint and self.path_style:
                common["endpoint"] = self.endpoint
            elif self.endpoint:
                scheme, _, host = self.endpoint.partition("://")
                common["endpoint"] = f"{scheme}://{self.name}.{host}"
            return S3Store(
                self.name,
                virtual_hosted_style_request=not self.path_style,
                disable_bulk_delete=True,  # which not every engine knows
                **common,
            )
        except BaseError as error:
            raise WrongStore(f"the object store cannot be used: {Failure(error)}") from error

    def describe(self, key: str) -> "GetResult":
        """What there is of an object but its bytes; raises FileNotFoundError and BaseError."""
        try:
            return obstore.get(self.client, key, options={"head": True})
        except PermissionDeniedError:
            # An answer to HEAD has no body to say why: the keys, or the clock of this machine.
            return obstore.get(self.client, key)

    @contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[float]:
        """Do something that nobody else does meanwhile who asks for the same lock.

        Yields until when, by `time.monotonic`, nobody takes it over. A lock that its holder left,
        having died or lost the way to the engine, is taken over after `timeout` seconds: who held
        it and was only slow is then not alone. Raises StoreUnavailable, and Held instead of waiting.
        """
        key = f"{LOCKS}/{name}"
        token = secrets.token_bytes(16)
        until = self._lock(key, token, wait)
        try:
            yield until
        except (BaseError, StoreUnavailable):
            raise  # asking again would wait again: the lock is left to who wants it next
        except BaseException:
            self._unlock(key, until)
            raise
        self._unlock(key, until)

    def _lock(self, key: str, token: bytes, wait: bool) -> float:
        end = time.monotonic() + 1.5 * self.timeout
        held: tuple[object, ...] = ()
        since = replaced = 0.0
        with asking("cannot lock the blob"):
            while True:
                begin = time.monotonic()
                with suppress(AlreadyExistsError):
                    obstore.put(self.client, key, token, mode="create")
                    return begin + self.timeout
                now = time.monotonic()
                try:
                    there = obstore.get(self.client, key)
                    if there.bytes() == token:
                        # The answer was lost, and obstore sent it again: held since it was sent first.
                        return (replaced or begin) + self.timeout
                except FileNotFoundError:
                    continue
                if not wait:
                    raise Held(key)
                meta = there.meta
                if held != (meta["e_tag"], meta["last_modified"]):
                    held, since = (meta["e_tag"], meta["last_modified"]), now
                elif now >= since + self.timeout:
                    replaced = now
                    if self.replace(key, token, meta):
                        return now + self.timeout
                if now >= end:
                    raise StoreUnavailable("others are changing this blob all the time")
                time.sleep(random.uniform(0, PAUSE))

    def replace(self, key: str, data: bytes, there: "ObjectMeta") -> bool:
        """Put something in the place of an object, unless that is there no more; raises BaseError."""
        etag = str(there["e_tag"])
        # RFC 9110 has the quotes, which Ceph 16 takes for a part of the tag.
        for spelling in (etag, etag.strip('"')):
            condition: UpdateVersion = {"e_tag": spelling}
            if there["version"] is not None:  # by which Google compares
                condition["version"] = there["version"]
            with suppress(PreconditionError):
                obstore.put(self.client, key, data, mode=condition)
                return True
        return False

    def clear(self, there: "ObjectMeta") -> bool:
        """Remove a lock that was described `timeout` seconds ago; False when it has changed since.

        It is taken over first, so that nobody else does meanwhile. Raises StoreUnavailable.
        """
        begin = time.monotonic()
        with asking("cannot take the lock over"):
            try:
                if not self.replace(there["path"], secrets.token_bytes(16), there):
                    return False
            except FileNotFoundError:
                return False
        self._unlock(there["path"], begin + self.timeout)
        return True

    def _unlock(self, key: str, until: float) -> None:
        # Later it may be another's. What could not be removed is taken over.
        if time.monotonic() < until:
            with suppress(BaseError, FileNotFoundError):
                obstore.delete(self.once, key)

    def url(self, key: str, seconds: int, parameters: Mapping[str, str]) -> str | None:
        """A URL that downloads an object for so many seconds; None where this cannot sign it.

        The parameters say which header fields the engine answers, `response-content-type` and
        the like. Signed by AWS Signature Version 4, with keys from the environment.
        """
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
        client = self.client
        if not isinstance(client, S3Store) or not secret:
            return None
        with asking("cannot sign a URL"):
            plain = obstore.sign(client, "GET", key, timedelta(seconds=seconds))
        return resigned(plain, secret, parameters)


def resigned(url: str, secret: str, parameters: Mapping[str, str]) -> str:
    """A presigned GET with more parameters, which obstore's `sign` does not take."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    del query["X-Amz-Signature"]
    fields = sorted(
        (quote(name, safe=""), quote(value, safe="")) for name, value in {**query, **parameters}.items()
    )
    text = "&".join(f"{name}={value}" for name, value in fields)
    request = f"GET\n{parts.path}\n{text}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Amz-Credential"].partition("/")[2]
    hashed = hashlib.sha256(request.encode()).hexdigest()
    key = b"AWS4" + secret.encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{hashed}"):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{text}&X-Amz-Signature={key.hex()}"
