"""The summary of a service that a server shows at its start."""

from dataclasses import replace

import pytest

from wsgi_store import __version__
from wsgi_store.assembly import create_app
from wsgi_store.banner import summary, warnings
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError

KEYS = "0123456789abcdef"


def test_what_is_said() -> None:
    """The summary names the store, the restrictions and who has access."""
    config = Config(root="s3://bucket/prefix", read_only=True)
    assert list(summary(config, ())) == [
        f"wsgi_store {__version__}: s3://bucket/prefix, read-only",
        "no tokens: everybody may read everything",
    ]
    config = Config(root="/srv", hash="sha256", tokens="/t", signing_keys=(KEYS,))  # type: ignore[arg-type]
    assert list(summary(config, [Algorithm.SHA256])) == [
        f"wsgi_store {__version__}: /srv, sha256, durability full",
        "tokens of /t; signed links and tickets",
    ]
    assert not list(warnings(config, [Algorithm.SHA256], {"WSGI_STORE_TOKEN": "x"}))
    assert len(list(warnings(Config(), [Algorithm.SHA256], {"WSGI_STORE_TOKEN": "x"}))) == 1


def test_what_is_said_of_names() -> None:
    """The summary has the store's algorithms, whatever is set, and a warning says that the setting is old."""
    kept = [Algorithm.SHA256, Algorithm.MD5, Algorithm.SHA1]
    config = Config(root="/srv", hash="md5")  # type: ignore[arg-type]
    (first, _) = summary(config, kept)
    assert first.endswith(": /srv, sha256 (further names: md5, sha1), durability full")
    assert list(warnings(config, kept, {})) == [
        "WSGI_STORE_HASH=md5: this store keeps md5 only for further names, and answers with sha256: "
        "set WSGI_STORE_HASH=sha256"
    ]
    for right in (Config(), Config(hash=Algorithm.SHA256)):
        assert not list(warnings(right, kept, {}))


def test_a_host_that_decides_itself(config: Config) -> None:
    """If the host application decides on access, a contradicting setting is rejected."""
    with pytest.raises(ConfigError, match="has no effect without"):
        create_app(replace(config, public_read=True))
