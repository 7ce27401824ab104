"""Settings that are one of a few words."""

import enum


class Sendfile(enum.Enum):
    """Which server sends the bytes of blobs."""

    OFF = "off"
    """This server."""
    X_SENDFILE = "x-sendfile"
    """The server in front, told by X-Sendfile (Apache, lighttpd)."""
    X_ACCEL = "x-accel"
    """The server in front, told by X-Accel-Redirect (nginx)."""


class Redirect(enum.Enum):
    """Which blobs clients download from the object store, by a signed URL."""

    NEVER = "never"
    LARGE = "large"
    ALWAYS = "always"


class MetricsAccess(enum.Enum):
    """Who may read the metrics for Prometheus."""

    OFF = "off"
    """Nobody; nothing is counted."""
    ON = "on"
    """Tokens with the scope admin; everybody if there are no tokens."""
    PUBLIC = "public"
    """Everybody."""


class Protocol(enum.Enum):
    """Foreign protocols that are off unless they are named."""

    LFS = "lfs"
    """Git LFS."""
    DVC = "dvc"
    """DVC 3."""
    BLOSSOM = "blossom"
    """Blossom, which has an application of its own."""


class LogFormat(enum.Enum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.Enum):
    """The least severe messages that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
