"""gunicorn's options that have no effect here: refused, because whoever sets one relies on it."""

import sys
from typing import Any

from gunicorn import config

_OWN_FORM = "the form of lines is fixed, set WSGI_STORE_LOG_FORMAT to text or json"
_NO_SYSLOG = "syslog is not supported, log to a file or to systemd"
# Options of other loggers: the name of the setting, the option, and what to do instead.
_UNSUPPORTED = (
    ("loglevel", "--log-level", "set WSGI_STORE_LOG_LEVEL, which applies to every line"),
    ("access_log_format", "--access-logformat", _OWN_FORM),
    ("logconfig", "--log-config", _OWN_FORM),
    ("logconfig_dict", "logconfig_dict", _OWN_FORM),
    ("logconfig_json", "--log-config-json", _OWN_FORM),
    ("syslog", "--log-syslog", _NO_SYSLOG),
    ("syslog_addr", "--log-syslog-to", _NO_SYSLOG),
    ("syslog_prefix", "--log-syslog-prefix", _NO_SYSLOG),
    ("syslog_facility", "--log-syslog-facility", _NO_SYSLOG),
    ("disable_redirect_access_to_syslog", "--disable-redirect-access-to-syslog", _NO_SYSLOG),
    (
        "statsd_host",
        "--statsd-host",
        "statsd is not supported, set WSGI_STORE_METRICS=on and let Prometheus scrape /metrics",
    ),
    ("statsd_prefix", "--statsd-prefix", "statsd is not supported"),
    ("dogstatsd_tags", "--dogstatsd-tags", "statsd is not supported"),
)
_DAEMON = "nobody would see why a start failed, use deploy/wsgi-store.service, or setsid(1) and &"


_validate_daemon = config.Daemon.validator


def unsupported(cfg: Any) -> str | None:
    """Return a message if `cfg` sets an option that the log of this package does not support."""
    for name, option, instead in _UNSUPPORTED:
        setting = cfg.settings[name]
        if setting.get() != setting.validator(setting.default):
            return f"{option}: {instead}"
    return None


def refuse_daemon() -> None:
    """Make gunicorn refuse --daemon while it reads its settings."""
    # gunicorn calls its first hook after it has detached from the terminal, where nobody sees a message.
    config.Daemon.validator = staticmethod(_checked_daemon)


def _checked_daemon(value: Any) -> bool:
    if _validate_daemon(value):
        sys.exit(f"wsgi-store: --daemon: {_DAEMON}")
    return False
