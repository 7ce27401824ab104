"""The settings and their environment variables."""

import math
import os
import re
import selectors
import socket
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_store.choices import Protocol
from wsgi_store.config import (
    Config,
    LogFormat,
    LogLevel,
    MetricsAccess,
    Redirect,
    Sendfile,
    parse_size,
    variable,
)
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.store.contract import Durability

GOOD = [
    ("WSGI_STORE_ROOT", "/srv/blobs", "root", "/srv/blobs"),
    ("WSGI_STORE_HASH", "md5", "hash", Algorithm.MD5),
    ("WSGI_STORE_HASH", "SHA1", "hash", Algorithm.SHA1),
    ("WSGI_STORE_HASH", "sha256", "hash", Algorithm.SHA256),
    ("WSGI_STORE_HASH", "sha512", "hash", Algorithm.SHA512),
    ("WSGI_STORE_HASH", "blake2b", "hash", Algorithm.BLAKE2B),
    ("WSGI_STORE_HASH", "blake3", "hash", Algorithm.BLAKE3),
    ("WSGI_STORE_NAMES", "md5", "names", (Algorithm.MD5,)),
    ("WSGI_STORE_NAMES", "MD5, sha1,sha512", "names", (Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA512)),
    ("WSGI_STORE_NAMES", "none", "names", ()),
    ("WSGI_STORE_MAX_SIZE", "none", "max_size", None),
    ("WSGI_STORE_MAX_SIZE", "0", "max_size", 0),
    ("WSGI_STORE_MAX_SIZE", " 10GiB ", "max_size", 10 << 30),
    ("WSGI_STORE_MAX_FORM_SIZE", "none", "max_form_size", None),
    ("WSGI_STORE_MAX_FORM_SIZE", "1TB", "max_form_size", 10**12),
    ("WSGI_STORE_MIN_FREE", "1.5MB", "min_free", 1_500_000),
    ("WSGI_STORE_DURABILITY", "full", "durability", Durability.FULL),
    ("WSGI_STORE_DURABILITY", "file", "durability", Durability.FILE),
    ("WSGI_STORE_DURABILITY", "none", "durability", Durability.NONE),
    ("WSGI_STORE_READ_ONLY", "yes", "read_only", True),
    ("WSGI_STORE_SENDFILE", "off", "sendfile", Sendfile.OFF),
    ("WSGI_STORE_SENDFILE", "x-sendfile", "sendfile", Sendfile.X_SENDFILE),
    ("WSGI_STORE_SENDFILE", "X-Accel", "sendfile", Sendfile.X_ACCEL),
    ("WSGI_STORE_ACCEL_LOCATION", "/a/b.c/", "accel_location", "/a/b.c/"),
    ("WSGI_STORE_ACCEL_LOCATION", "/", "accel_location", "/"),
    ("WSGI_STORE_S3_STAGING", "/var/tmp/staging", "s3_staging", "/var/tmp/staging"),
    ("WSGI_STORE_S3_ENDPOINT", "https://s3.example.org:9000", "s3_endpoint", "https://s3.example.org:9000"),
    ("WSGI_STORE_S3_ENDPOINT", "none", "s3_endpoint", None),
    ("WSGI_STORE_S3_PATH_STYLE", "no", "s3_path_style", False),
    ("WSGI_STORE_S3_TIMEOUT", "0.5s", "s3_timeout", 0.5),
    ("WSGI_STORE_REDIRECT", "Never", "redirect", Redirect.NEVER),
    ("WSGI_STORE_IDLE_TIMEOUT", "90", "idle_timeout", 90.0),
    ("WSGI_STORE_IDLE_TIMEOUT", "0.5s", "idle_timeout", 0.5),
    ("WSGI_STORE_IDLE_TIMEOUT", "5 m", "idle_timeout", 300.0),
    ("WSGI_STORE_IDLE_TIMEOUT", "1h", "idle_timeout", 3600.0),
    ("WSGI_STORE_IDLE_TIMEOUT", "1.5d", "idle_timeout", 129600.0),
    ("WSGI_STORE_MIN_RATE", "4KiB", "min_rate", 4096),
    ("WSGI_STORE_MIN_RATE", "0", "min_rate", 0),
    ("WSGI_STORE_UPLOAD_EXPIRES", "2d", "upload_expires", 172800.0),
    ("WSGI_STORE_LINK_EXPIRES", "2d", "link_expires", 172800.0),
    ("WSGI_STORE_INTERIM", "yes", "interim", True),
    ("WSGI_STORE_UPLOAD_COUNT", "5", "upload_count", 5),
    ("WSGI_STORE_UPLOAD_BYTES", "1TB", "upload_bytes", 10**12),
    ("WSGI_STORE_UPLOAD_BYTES", "none", "upload_bytes", None),
    ("WSGI_STORE_TOKENS", "/etc/tokens", "tokens", "/etc/tokens"),
    ("WSGI_STORE_PUBLIC_READ", "Yes", "public_read", True),
    ("WSGI_STORE_PUBLIC_READ", "0", "public_read", False),
    ("WSGI_STORE_SIGNING_KEYS", "0123456789abcdef", "signing_keys", ("0123456789abcdef",)),
    ("WSGI_STORE_SIGNING_KEYS", f"{'a' * 16}, {'b' * 20}", "signing_keys", ("a" * 16, "b" * 20)),
    ("WSGI_STORE_HOSTS", "store.example.org, a,[::1] b", "hosts", ("store.example.org", "a", "[::1]", "b")),
    ("WSGI_STORE_HOSTS", "none", "hosts", ()),
    ("WSGI_STORE_CORS_ORIGINS", "http://a:1 https://b", "cors_origins", ("http://a:1", "https://b")),
    ("WSGI_STORE_CORS_ORIGINS", "*", "cors_origins", ("*",)),
    ("WSGI_STORE_PAGE", "off", "page", False),
    ("WSGI_STORE_PAGE", "On", "page", True),
    ("WSGI_STORE_PROTOCOLS", "lfs,dvc", "protocols", (Protocol.LFS, Protocol.DVC)),
    ("WSGI_STORE_PROTOCOLS", "Blossom", "protocols", (Protocol.BLOSSOM,)),
    ("WSGI_STORE_PROTOCOLS", "none", "protocols", ()),
    ("WSGI_STORE_PUBLIC_URL", "https://a.example/blobs/", "public_url", "https://a.example/blobs"),
    ("WSGI_STORE_PUBLIC_URL", "http://[::1]:8080", "public_url", "http://[::1]:8080"),
    ("WSGI_STORE_METRICS", "public", "metrics", MetricsAccess.PUBLIC),
    ("WSGI_STORE_LOG_LEVEL", "WARNING", "log_level", LogLevel.WARNING),
    ("WSGI_STORE_LOG_FORMAT", "json", "log_format", LogFormat.JSON),
]
BAD = [
    ("WSGI_STORE_ROOT", ""),
    ("WSGI_STORE_ROOT", "  "),
    ("WSGI_STORE_HASH", ""),
    ("WSGI_STORE_HASH", "crc32"),
    ("WSGI_STORE_HASH", "sha-256"),
    ("WSGI_STORE_HASH", "none"),
    ("WSGI_STORE_NAMES", ""),
    ("WSGI_STORE_NAMES", "md5,crc32"),
    ("WSGI_STORE_NAMES", "md5 none"),
    ("WSGI_STORE_MAX_SIZE", ""),
    ("WSGI_STORE_MAX_SIZE", "-1"),
    ("WSGI_STORE_MAX_SIZE", "unlimited"),
    ("WSGI_STORE_MAX_FORM_SIZE", "-1"),
    ("WSGI_STORE_MAX_FORM_SIZE", "everything"),
    ("WSGI_STORE_MIN_FREE", "none"),
    ("WSGI_STORE_MIN_FREE", "1e9"),
    ("WSGI_STORE_DURABILITY", "yes"),
    ("WSGI_STORE_READ_ONLY", ""),
    ("WSGI_STORE_SENDFILE", "on"),
    ("WSGI_STORE_ACCEL_LOCATION", "blobs/"),
    ("WSGI_STORE_ACCEL_LOCATION", "/blobs"),
    ("WSGI_STORE_ACCEL_LOCATION", "//"),
    ("WSGI_STORE_ACCEL_LOCATION", "/a\r\nSet-Cookie: b/"),
    ("WSGI_STORE_S3_STAGING", ""),
    ("WSGI_STORE_S3_ENDPOINT", "s3.example.org"),
    ("WSGI_STORE_S3_ENDPOINT", "ftp://s3.example.org"),
    ("WSGI_STORE_S3_ENDPOINT", "https://s3.example.org/bucket"),
    ("WSGI_STORE_S3_ENDPOINT", "https://key:secret@s3.example.org"),
    ("WSGI_STORE_S3_PATH_STYLE", "virtual"),
    ("WSGI_STORE_S3_TIMEOUT", "soon"),
    ("WSGI_STORE_REDIRECT", "often"),
    ("WSGI_STORE_IDLE_TIMEOUT", "soon"),
    ("WSGI_STORE_MIN_RATE", "slow"),
    ("WSGI_STORE_MIN_RATE", "-1"),
    ("WSGI_STORE_INTERIM", "104"),
    ("WSGI_STORE_UPLOAD_EXPIRES", "later"),
    ("WSGI_STORE_LINK_EXPIRES", "never"),
    ("WSGI_STORE_UPLOAD_EXPIRES", "none"),
    ("WSGI_STORE_UPLOAD_COUNT", "none"),
    ("WSGI_STORE_UPLOAD_COUNT", "1k"),
    ("WSGI_STORE_UPLOAD_BYTES", "-1"),
    ("WSGI_STORE_UPLOAD_BYTES", "all"),
    ("WSGI_STORE_IDLE_TIMEOUT", "-1"),
    ("WSGI_STORE_IDLE_TIMEOUT", "1w"),
    ("WSGI_STORE_TOKENS", ""),
    ("WSGI_STORE_PUBLIC_READ", "maybe"),
    ("WSGI_STORE_SIGNING_KEYS", ""),
    ("WSGI_STORE_HOSTS", ""),
    ("WSGI_STORE_HOSTS", ","),
    ("WSGI_STORE_HOSTS", "a:80"),
    ("WSGI_STORE_HOSTS", "a:"),
    ("WSGI_STORE_HOSTS", "*"),
    ("WSGI_STORE_HOSTS", "http://a"),
    ("WSGI_STORE_HOSTS", "bücher.example"),
    ("WSGI_STORE_CORS_ORIGINS", ""),
    ("WSGI_STORE_CORS_ORIGINS", "yes"),
    ("WSGI_STORE_CORS_ORIGINS", "null"),
    ("WSGI_STORE_CORS_ORIGINS", "a.example"),
    ("WSGI_STORE_CORS_ORIGINS", "http://a/"),
    ("WSGI_STORE_CORS_ORIGINS", "https://*.example.org"),
    ("WSGI_STORE_PAGE", "html"),
    ("WSGI_STORE_PROTOCOLS", ""),
    ("WSGI_STORE_PROTOCOLS", "tus"),
    ("WSGI_STORE_PROTOCOLS", "lfs,dcv"),
    ("WSGI_STORE_PUBLIC_URL", ""),
    ("WSGI_STORE_PUBLIC_URL", "files.example.org"),
    ("WSGI_STORE_PUBLIC_URL", "ftp://a"),
    ("WSGI_STORE_PUBLIC_URL", "https://me@a"),
    ("WSGI_STORE_PUBLIC_URL", "https://a:b"),
    ("WSGI_STORE_PUBLIC_URL", "https://a/?b"),
    ("WSGI_STORE_PUBLIC_URL", "https://a/../b"),
    ("WSGI_STORE_METRICS", "yes"),
    ("WSGI_STORE_LOG_LEVEL", "loud"),
    ("WSGI_STORE_LOG_FORMAT", "xml\nand more"),
]
UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def test_defaults() -> None:
    """Without variables of its own, the service has the default settings."""
    assert Config.from_env({"PATH": "/bin", "STORE_HASH": "x", "wsgi_store_hash": "x"}) == Config()
    assert Config().hash is Config().names is None
    assert Config().durability is Durability.FULL


@pytest.mark.parametrize(("name", "text", "attribute", "value"), GOOD)
def test_a_setting(name: str, text: str, attribute: str, value: object) -> None:
    """A variable sets its own setting and no other."""
    config = Config.from_env({name: text})
    assert getattr(config, attribute) == value
    assert config == Config(**{attribute: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "text", "attribute", "value"), GOOD)
def test_a_host_may_give_text(name: str, text: str, attribute: str, value: object) -> None:
    """A field accepts the same text as its variable."""
    assert name == f"WSGI_STORE_{attribute.upper()}"
    assert getattr(Config(**{attribute: text.strip()}), attribute) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_host_may_not_give_bad_text(name: str, text: str) -> None:
    """A field rejects other text and wrong types at once, with an error that names the setting."""
    attribute = name.removeprefix("WSGI_STORE_").lower()
    for bad in (text.strip(), b"bytes", object(), 1 + 1j, [1], {"a": 1}):
        with pytest.raises(ConfigError, match=f"^{name}: ") as caught:
            Config(**{attribute: bad})  # type: ignore[arg-type]
        if name == "WSGI_STORE_SIGNING_KEYS":
            assert "bytes" not in str(caught.value)


def test_other_ways_to_give_a_setting() -> None:
    """A field also takes a Path, a list or whole seconds, but neither a bool as a number nor 1 as a bool."""
    assert Config(root=Path("/srv/blobs")).root == "/srv/blobs"  # type: ignore[arg-type]
    assert Config(tokens=Path("tokens")).tokens == "tokens"  # type: ignore[arg-type]
    keys: Any = ["a" * 16, "b" * 16]
    assert Config(signing_keys=keys).signing_keys == tuple(keys)
    assert Config(idle_timeout=5).idle_timeout == 5.0
    for field in ("max_size", "min_free", "idle_timeout"):
        with pytest.raises(ConfigError, match="expected"):
            Config(**{field: True})  # type: ignore[arg-type]
    for field in ("public_read", "read_only"):
        with pytest.raises(ConfigError, match="expected bool, not 1$"):
            Config(**{field: 1})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="^WSGI_STORE_SIGNING_KEYS: [^']*$"):
        Config(signing_keys=("short", "a" * 16))


def test_every_setting_is_tested() -> None:
    """Each setting is tested with good and with bad values."""
    names = {variable(row) for row in fields(Config)}
    assert names == {row[0] for row in GOOD} == {row[0] for row in BAD}


@pytest.mark.parametrize(
    "name, good, bad",
    [("WSGI_STORE_HOSTS", "a", "b:80"), ("WSGI_STORE_CORS_ORIGINS", "http://a", "*")],
)
def test_a_bad_one_of_several(name: str, good: str, bad: str) -> None:
    """The error about a list names the wrong item."""
    for make in (
        lambda: Config.from_env({name: f"{good}, {bad}, {good}"}),
        lambda: Config(**{name.removeprefix("WSGI_STORE_").lower(): (good, bad)}),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=rf"^{name}: .*, not {re.escape(repr(bad))}$"):
            make()


@pytest.mark.parametrize("name", ["idle_timeout", "s3_timeout"])
@pytest.mark.parametrize("text", ["0", "24.1d", "999999999d"])
def test_a_timeout_must_be(name: str, text: str) -> None:
    """A timeout must be greater than 0, and short enough for poll(2)."""
    with pytest.raises(
        ConfigError, match=f"^WSGI_STORE_{name.upper()}: must be greater than 0 and at most 24d$"
    ):
        Config.from_env({f"WSGI_STORE_{name.upper()}": text})
    for seconds in (math.nan, math.inf, -1.0):
        with pytest.raises(ConfigError, match=f"^WSGI_STORE_{name.upper()}: "):
            Config(**{name: seconds})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text"), [("upload_expires", "0"), ("upload_expires", "366.1d"), ("upload_count", "0")]
)
def test_uploads_need_time_and_room(name: str, text: str) -> None:
    """An upload that expires at once could not be continued, and the end of one must be a date."""
    with pytest.raises(ConfigError, match=f"^WSGI_STORE_{name.upper()}: must be "):
        Config(**{name: text})  # type: ignore[arg-type]


def test_the_longest_timeout_can_be_waited_for() -> None:
    """Sockets and poll(2) accept the longest timeout."""
    longest = Config.from_env({"WSGI_STORE_IDLE_TIMEOUT": "24d"}).idle_timeout
    one, other = socket.socketpair()
    with one, other, selectors.PollSelector() as selector:
        one.settimeout(longest)
        assert one.send(b"x") == 1
        selector.register(other, selectors.EVENT_READ)
        assert selector.select(longest)


@pytest.mark.parametrize(
    ("root", "refused"), [("./store", True), ("gs://bucket", True), ("s3://bucket", False)]
)
def test_redirecting_needs_s3(root: str, refused: bool) -> None:
    """Redirecting downloads requires an s3:// store, which can sign URLs."""
    for redirect in (Redirect.LARGE, Redirect.ALWAYS):
        with (
            pytest.raises(ConfigError, match="WSGI_STORE_REDIRECT: requires s3://")
            if refused
            else nullcontext()
        ):
            assert Config(root=root, redirect=redirect).redirect is redirect


def test_a_secret_is_not_repeated() -> None:
    """Neither an error message nor the repr of the settings shows a signing key."""
    with pytest.raises(ConfigError, match="WSGI_STORE_SIGNING_KEYS") as refusal:
        Config.from_env({"WSGI_STORE_SIGNING_KEYS": "tooshort"})
    assert "tooshort" not in str(refusal.value)
    assert "b" * 20 not in repr(Config(signing_keys=("b" * 20,)))


def test_every_setting_has_help() -> None:
    """The help of each setting is one sentence."""
    for row in fields(Config):
        assert re.fullmatch(r"[A-Z].*\.", row.metadata["help"])


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value(name: str, text: str) -> None:
    """A bad value is rejected in one line that names the variable and shows the value unless it is secret."""
    with pytest.raises(ConfigError) as caught:
        Config.from_env({name: text})
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert message.endswith(f", not {text!r}") is (name != "WSGI_STORE_SIGNING_KEYS")
    assert message.isprintable()


@pytest.mark.parametrize(
    "name", ["WSGI_STORE_", "WSGI_STORE_HASHES", "WSGI_STORE_hash", "WSGI_STORE_MAXSIZE"]
)
def test_an_unknown_name(name: str) -> None:
    """An unknown variable with the prefix of a setting is rejected, to catch typing errors."""
    with pytest.raises(ConfigError, match=f"^{name}: unknown setting$"):
        Config.from_env({name: "x", "WSGI_STORE_HASH": "md5"})


def test_the_environment_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, from_env reads the current environment of the process."""
    for name in os.environ:
        if name.startswith("WSGI_STORE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WSGI_STORE_HASH", "sha512")
    assert Config.from_env() == Config(hash=Algorithm.SHA512)


@pytest.mark.parametrize("name", ["max_size", "max_form_size", "min_free", "upload_bytes"])
def test_a_negative_size(name: str) -> None:
    """A negative size given by a host application is rejected."""
    with pytest.raises(ConfigError, match=f"^WSGI_STORE_{name.upper()}: must not be negative$"):
        Config(**{name: -1})  # type: ignore[arg-type]


def test_settings_do_not_change() -> None:
    """Settings are immutable."""
    with pytest.raises(FrozenInstanceError):
        Config().root = "elsewhere"  # type: ignore[misc]


@given(
    st.integers(0, 10**18 - 1),
    st.none() | st.text("0123456789", min_size=1, max_size=9),
    st.sampled_from(["", " "]),
    st.sampled_from(sorted(UNITS)),
)
def test_sizes(whole: int, part: str | None, space: str, unit: str) -> None:
    """A size is a number with a unit, computed exactly and rounded down to whole bytes."""
    number = str(whole) if part is None else f"{whole}.{part}"
    assert parse_size(f"{number}{space}{unit}") == int(Fraction(number) * UNITS[unit])


def test_a_size_that_a_float_gets_wrong() -> None:
    """A fractional size is computed without rounding errors."""
    assert parse_size("1.001KB") == 1001


@pytest.mark.parametrize(
    "text",
    ["", "B", "1 000", "1,5GB", "1.GB", ".5GB", "+1", "-1", "0x10", "1_000", "1kb", "1gib", "1PB", "1  B"]
    + ["1\n", "\n1", "١", "1" * 19, "1." + "1" * 10, "nan", "inf", "1/2", "1e3"],
    ids=ascii,
)
def test_a_malformed_size(text: str) -> None:
    """A malformed size is rejected with examples of valid ones."""
    with pytest.raises(ValueError, match="^expected a size such as 512, 100MB or 10GiB$"):
        parse_size(text)


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["WSGI_STORE_URL"], None),
        (["WSGI_STORE_URL", "WSGI_STORE_TOKEN", "WSGI_STORE_TOKENS"], None),
        (["WSGI_STORE_TOKEN"], None),
        (["WSGI_STORE_TOKEN"], "/etc/tokens"),
        (["WSGI_STORE_TOKEN"], "./tokens"),
        (["WSGI_STORE_TOKEN"], os.path.relpath(__file__)),
        (["WSGI_STORE_TOKEN", "WSGI_STORE_URL"], __file__),
    ],
)
def test_the_variables_of_the_client(names: list[str], refused: str | None) -> None:
    """A server ignores the client's variables, unless TOKEN holds a path and TOKENS is missing."""
    environ = dict.fromkeys(names, refused or "x")
    if refused:
        with pytest.raises(ConfigError, match="^WSGI_STORE_TOKEN: .*, not a file: set WSGI_STORE_TOKENS$"):
            Config.from_env(environ)
    else:
        assert Config.from_env(environ) == Config(tokens=environ.get("WSGI_STORE_TOKENS"))
