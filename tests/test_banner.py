"""The summary of a service that a server shows at its start."""

from dataclasses import replace

import pytest

from wsgi_store import __version__
from wsgi_store.assembly import create_app
from wsgi_store.banner import summary, warnings
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError

KEYS = "0123456789abcdef"


def test_what_is_said() -> None:
    """The summary names the store, the restrictions and who has access."""
    config = Config(root="s3://bucket/prefix", read_only=True)
    assert list(summary(config)) == [
        f"wsgi_store {__version__}: s3://bucket/prefix, md5, read-only",
        "no tokens: everybody may read everything",
    ]
    config = Config(root="/srv", hash="sha256", tokens="/t", signing_keys=(KEYS,))  # type: ignore[arg-type]
    assert list(summary(config)) == [
        f"wsgi_store {__version__}: /srv, sha256, durability full",
        "tokens of /t; signed links and tickets",
    ]
    assert not list(warnings(config, {"WSGI_STORE_TOKEN": "x"}))
    assert len(list(warnings(Config(), {"WSGI_STORE_TOKEN": "x"}))) == 1


def test_a_host_that_decides_itself(config: Config) -> None:
    """If the host application decides on access, a contradicting setting is rejected."""
    with pytest.raises(ConfigError, match="has no effect without"):
        create_app(replace(config, public_read=True))
