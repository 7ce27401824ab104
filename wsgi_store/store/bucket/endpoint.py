"""Where a bucket is: its URL, the address of its engine, its region.

The variables that all S3 clients share (`AWS_*`) are read here and by those clients themselves, not by
Config: obstore and botocore look for keys, roles and regions in the environment whoever opens a store.
"""

import ipaddress
import os
import re
from contextlib import suppress
from typing import NamedTuple

from wsgi_store.errors import ConfigError
from wsgi_store.store.contract import Remote

# In the order of obstore, which reads them too: the most specific one first.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
ENDPOINT = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?(?:/[!-~]*)?", re.ASCII)
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
MAX_PORT = 0xFFFF


class Place(NamedTuple):
    """A bucket, or the part of it below a prefix."""

    scheme: str
    name: str
    prefix: str | None


def parse_place(url: str) -> Place:
    """Read the URL of a store such as `s3://bucket/prefix`; raises ConfigError."""
    scheme, _, rest = url.partition("://")
    name, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    valid = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", name) and prefix.isprintable()
    if not valid or (prefix and {"", ".", ".."} & {*prefix.split("/")}):
        raise ConfigError(f"WSGI_STORE_ROOT: expected {scheme}://bucket/prefix, not {url!r}")
    return Place(scheme, name, prefix or None)


def endpoint_of(remote: Remote) -> str | None:
    """Return the URL of the engine, None for AWS; raises ConfigError for a malformed one."""
    given = {"WSGI_STORE_S3_ENDPOINT": remote.endpoint} | {name: os.environ.get(name) for name in ENDPOINTS}
    for name, url in given.items():
        if url and not _is_endpoint(url):  # obstore would panic
            expected = "http://host or https://host, optionally with a port"
            raise ConfigError(f"{name}: expected {expected}, not {url!r}")
        if url:
            return url
    return None


def _is_endpoint(url: str) -> bool:
    match = ENDPOINT.fullmatch(url)
    if match is None or int(match[2] or 0) > MAX_PORT:
        return False
    if re.fullmatch(r"\[.*|[0-9.]+", match[1]):
        with suppress(ValueError):
            return bool(ipaddress.ip_address(match[1].strip("[]")))
        return False
    return True


def region() -> str | None:
    """Return the region that the environment names, None if it names none."""
    return next(filter(None, map(os.environ.get, REGIONS)), None)


def host_of_bucket(endpoint: str, name: str) -> str:
    """Return the URL of an engine with the bucket in the host name (virtual-hosted style)."""
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{name}.{host}"
