"""Settings: one table, each row with its default, its help and its WSGI_STORE_* name."""

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any, Self, get_type_hints

from wsgi_store.authority import parse_host, parse_origin
from wsgi_store.choices import LogFormat, LogLevel, MetricsAccess, Protocol, Redirect, Sendfile
from wsgi_store.digest import Algorithm, require_distinct
from wsgi_store.errors import ConfigError
from wsgi_store.store.contract import Durability, Remote
from wsgi_store.store.open import BUCKETS
from wsgi_store.values import (
    KEY_LENGTH,
    choice,
    flag,
    optional,
    parse_count,
    parse_endpoint,
    parse_keys,
    parse_location,
    parse_names,
    parse_size,
    parse_text,
    parse_time,
    parse_url,
    several,
    taken,
)

PREFIX = "WSGI_STORE_"
# Variables of the command `wsgi-store` as a client, which may be set where it is a server.
CLIENT = {f"{PREFIX}URL", f"{PREFIX}TOKEN"}
# The longest times in seconds. poll(2) takes milliseconds in 31 bits.
LONGEST = dict.fromkeys(("idle_timeout", "s3_timeout"), (24 * 86400, "24d")) | dict.fromkeys(
    ("upload_expires", "link_expires"), (366 * 86400, "366d")
)


def _check(name: str, values: tuple[str, ...], parse: Callable[[str], object]) -> None:
    for value in values:
        try:
            parse(value)
        except ValueError as error:
            raise ConfigError(f"{PREFIX}{name.upper()}: {error}, not {value!r}") from None


def _row(parse: Callable[[str], Any], help_: str, secret: bool = False) -> dict[str, Any]:
    return {"parse": parse, "help": help_, "secret": secret}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:  # pylint: disable=too-many-instance-attributes
    """The settings of a service. A host application creates one; a server reads the environment.

    Each setting may also be given as the text of its variable, a path as a pathlib.Path, and several texts
    as a list. Raises ConfigError.
    """

    root: str = field(
        default="./store",
        metadata=_row(parse_text, "Where the blobs are: a directory, or a bucket as `s3://bucket/prefix`."),
    )
    hash: Algorithm | None = field(
        default=None,
        metadata=_row(
            choice(Algorithm),
            "The hash that names the blobs of a new store: `md5`, `sha1`, `sha256`, `sha512`, `blake2b` or "
            "`blake3`.",
        ),
    )
    names: tuple[Algorithm, ...] | None = field(
        default=None,
        metadata=_row(
            optional(several(choice(Algorithm)), ()),
            "Other hashes that also name each blob of a new store, such as `md5,sha1`, or `none`.",
        ),
    )
    max_size: int | None = field(
        default=None, metadata=_row(optional(parse_size), "The largest upload, such as `10GiB`, or `none`.")
    )
    max_form_size: int | None = field(
        default=None,
        metadata=_row(
            optional(parse_size), "The largest form with all its files, such as `10GiB`, or `none`."
        ),
    )
    min_free: int = field(
        default=64 << 20,
        metadata=_row(parse_size, "Free space that uploads leave on the disk, such as `1GiB`."),
    )
    durability: Durability = field(
        default=Durability.FULL,
        metadata=_row(
            choice(Durability),
            "What is synced before an upload is acknowledged: `full` (the file and its directory), "
            "`file` or `none`.",
        ),
    )
    read_only: bool = field(
        default=False,
        metadata=_row(
            flag, "Whether the service only reads the store and writes nothing into it: `yes` or `no`."
        ),
    )
    sendfile: Sendfile = field(
        default=Sendfile.OFF,
        metadata=_row(
            choice(Sendfile),
            "Who sends a blob's bytes: `off` (this server), or a proxy in front, by `x-sendfile` or "
            "`x-accel`.",
        ),
    )
    accel_location: str = field(
        default="/_blobs/",
        metadata=_row(parse_location, "The internal location of nginx that `x-accel` names."),
    )
    s3_staging: str = field(
        default="./staging",
        metadata=_row(parse_text, "The local directory that receives uploads to a bucket."),
    )
    s3_endpoint: str | None = field(
        default=None,
        metadata=_row(
            optional(parse_endpoint),
            "The object store, such as `https://s3.example.org`; by default `AWS_ENDPOINT_URL`, or AWS.",
        ),
    )
    s3_path_style: bool = field(
        default=True,
        metadata=_row(flag, "Whether URLs name the bucket in the path instead of the host: `yes` or `no`."),
    )
    s3_timeout: float = field(
        default=10.0,
        metadata=_row(parse_time, "How long a request to the object store may take, such as `10s`."),
    )
    redirect: Redirect = field(
        default=Redirect.NEVER,
        metadata=_row(
            choice(Redirect),
            "Which downloads redirect to a signed URL of the object store: `never`, `large` (blobs over 1 "
            "MiB) or `always`.",
        ),
    )
    idle_timeout: float = field(
        default=60.0,
        metadata=_row(
            parse_time,
            "How long a transfer may stand still, such as `60s` or `5m`; servers other than "
            "gunicorn have settings of their own (docs/deployment.md).",
        ),
    )
    min_rate: int = field(
        default=1 << 10,
        metadata=_row(parse_size, "Bytes per second below which a transfer ends if others wait (gunicorn)."),
    )
    upload_expires: float = field(
        default=86400.0,
        metadata=_row(
            parse_time, "How long an unfinished upload is kept after its last byte, such as `24h` or `7d`."
        ),
    )
    upload_count: int = field(
        default=1000,
        metadata=_row(
            parse_count, "Unfinished uploads of each token, or of all callers without tokens; at least 1."
        ),
    )
    interim: bool = field(
        default=False,
        metadata=_row(
            flag,
            "Whether gunicorn sends interim responses (104) of Resumable Uploads for HTTP: `yes` or `no`. "
            "Not behind a proxy that takes them for the final response, as nginx 1.22 does.",
        ),
    )
    upload_bytes: int | None = field(
        default=None,
        metadata=_row(
            optional(parse_size),
            "Bytes received and announced for unfinished uploads of each token, or of all callers without "
            "tokens, such as `1TB`, or `none`.",
        ),
    )
    tokens: str | None = field(
        default=None,
        metadata=_row(optional(parse_text), "The file of tokens; without it anybody may do everything."),
    )
    public_read: bool = field(
        default=False, metadata=_row(flag, "Whether anybody may read blobs without a token: `yes` or `no`.")
    )
    signing_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=_row(
            optional(parse_keys, ()),
            "Secrets for links and tickets, separated by commas; the last one signs.",
            secret=True,
        ),
    )
    link_expires: float = field(
        default=7 * 86400.0,
        metadata=_row(
            parse_time,
            "How long the links and tickets that `POST /links` makes may last, such as `24h` or `7d`.",
        ),
    )
    hosts: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            optional(parse_names, ()),
            "Host names, besides `localhost`, of a service on a loopback address without tokens, "
            "separated by commas.",
        ),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            optional(parse_names, ()),
            "Sites whose pages may use the service, such as `https://app.example.org`, separated by commas; "
            "or `*`.",
        ),
    )
    page: bool = field(
        default=True, metadata=_row(flag, "Whether browsers get a page for people at `/`: `on` or `off`.")
    )
    protocols: tuple[Protocol, ...] = field(
        default=(),
        metadata=_row(
            optional(several(choice(Protocol)), ()),
            "Protocols that are served beside this API, separated by commas: `lfs`, `dvc` and `blossom`.",
        ),
    )
    public_url: str | None = field(
        default=None,
        metadata=_row(
            optional(parse_url),
            "The service's public URL, such as `https://example.org/blobs`; by default as requests name it.",
        ),
    )
    metrics: MetricsAccess = field(
        default=MetricsAccess.OFF,
        metadata=_row(
            choice(MetricsAccess),
            "Whether to count for `/metrics`: `off`, `on` (for the scope `admin`) or `public` (for all).",
        ),
    )
    log_level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_row(
            choice(LogLevel), "The least severe messages logged: `debug`, `info`, `warning` or `error`."
        ),
    )
    log_format: LogFormat = field(
        default=LogFormat.TEXT, metadata=_row(choice(LogFormat), "The format of log lines: `text` or `json`.")
    )

    def __post_init__(self) -> None:
        for row in fields(self):
            value = getattr(self, row.name)
            try:
                value = taken(value, _kinds()[row.name], row.metadata["parse"])
            except ValueError as error:
                given = "" if row.metadata["secret"] else f", not {value!r}"
                raise ConfigError(f"{variable(row)}: {error}{given}") from None
            object.__setattr__(self, row.name, value)
        if any(len(key) < KEY_LENGTH for key in self.signing_keys):
            raise ConfigError(f"{PREFIX}SIGNING_KEYS: expected keys of at least {KEY_LENGTH} characters")
        for name in ("max_size", "max_form_size", "min_free", "min_rate", "upload_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{PREFIX}{name.upper()}: must not be negative")
        for name, (most, days) in LONGEST.items():
            if not 0 < getattr(self, name) <= most:
                raise ConfigError(f"{PREFIX}{name.upper()}: must be greater than 0 and at most {days}")
        if self.upload_count < 1:
            raise ConfigError(f"{PREFIX}UPLOAD_COUNT: must be at least 1")
        try:
            require_distinct((*filter(None, [self.hash]), *(self.names or ())))
        except ValueError as error:
            raise ConfigError(f"{PREFIX}NAMES: {error}") from None
        _check("hosts", self.hosts, parse_host)
        if self.cors_origins != ("*",):
            _check("cors_origins", self.cors_origins, parse_origin)
        if self.redirect is not Redirect.NEVER and not self.root.startswith("s3://"):
            raise ConfigError(f"{PREFIX}REDIRECT: requires s3://… as {PREFIX}ROOT")

    def require_sense(self) -> None:
        """Raise ConfigError for a setting that has no effect with the others."""
        scheme, separator, _ = self.root.partition("://")
        bucket = bool(separator) and scheme in BUCKETS
        needed = {
            "public_read": (self.tokens, f"{PREFIX}TOKENS"),
            "signing_keys": (self.tokens, f"{PREFIX}TOKENS"),
            "link_expires": (self.signing_keys, f"{PREFIX}SIGNING_KEYS"),
            "accel_location": (self.sendfile is Sendfile.X_ACCEL, f"{PREFIX}SENDFILE=x-accel"),
            "s3_staging": (bucket, f"a bucket as {PREFIX}ROOT"),
            "s3_timeout": (bucket, f"a bucket as {PREFIX}ROOT"),
            "s3_endpoint": (bucket and scheme == "s3", f"s3://… as {PREFIX}ROOT"),
            "s3_path_style": (bucket and scheme == "s3", f"s3://… as {PREFIX}ROOT"),
        }
        for row in fields(self):
            met, other = needed.get(row.name, (True, ""))
            if not met and getattr(self, row.name) != row.default:
                raise ConfigError(f"{variable(row)}: has no effect without {other}")

    @property
    def remote(self) -> Remote:
        """The settings for an object store."""
        return Remote(self.s3_staging, self.s3_endpoint, self.s3_path_style, self.s3_timeout)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings from environment variables.

        Raises ConfigError, in one line that names the variable, for an unknown name or a bad value.
        """
        known = {variable(row): row for row in fields(cls)}
        values = {}
        # A file name is probably meant for WSGI_STORE_TOKENS, without which everybody may do everything.
        token = environ.get(f"{PREFIX}TOKEN", "").strip()
        if f"{PREFIX}TOKENS" not in environ and token and _is_a_file(token):
            raise ConfigError(f"{PREFIX}TOKEN: expected a client's token, not a file: set {PREFIX}TOKENS")
        for name in sorted(environ):
            if not name.startswith(PREFIX) or name in CLIENT:
                continue
            if name not in known:
                raise ConfigError(f"{name}: unknown setting")
            try:
                values[known[name].name] = known[name].metadata["parse"](environ[name].strip())
            except ValueError as error:
                given = "" if known[name].metadata["secret"] else f", not {environ[name]!r}"
                raise ConfigError(f"{name}: {error}{given}") from None
        return cls(**values)


@cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(Config)


def _is_a_file(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~/")) or os.path.exists(text)


def variable(row: "Field[Any]") -> str:
    """Return the environment variable of a setting."""
    return PREFIX + row.name.upper()
