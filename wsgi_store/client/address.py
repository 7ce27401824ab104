"""The address of a server and the credentials for it: its URL, the token, ~/.netrc."""

import netrc
import os
import re
from pathlib import Path
from urllib.parse import unquote

from urllib3 import make_headers
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from wsgi_store.errors import ConfigError

NOT_LATIN = "user name and password: expected Latin-1 characters"


def parse(url: str) -> Url:
    """Split the URL of a server; raises ConfigError, which never shows the URL: it may hold a password."""
    try:
        place = parse_url(url)
    except LocationParseError:
        place = Url()
    if not re.match("https?://", url) or not place.host or place.query or place.fragment:
        raise ConfigError("the URL of the server: expected http://host:port/prefix, or https://")
    return place


def base(place: Url) -> str:
    """Return the URL of a server without credentials and final slash."""
    return Url(place.scheme, host=place.host, port=place.port, path=place.path).url.rstrip("/")


def credentials(place: Url, token: str | None) -> dict[str, str]:
    """Return the Authorization field, from the token, else the URL, else ~/.netrc; raises ConfigError."""
    if token is not None:
        if not re.fullmatch("[!-~]+", token):
            raise ConfigError("the token: expected printable ASCII characters without spaces")
        return {"Authorization": f"Bearer {token}"}
    pair = unquote(place.auth) if place.auth else _netrc(place.host or "")
    try:
        return make_headers(basic_auth=pair) if pair else {}
    except UnicodeEncodeError:
        raise ConfigError(NOT_LATIN) from None


def _netrc(host: str) -> str | None:
    named = os.environ.get("NETRC")
    try:
        path = Path(named or "~/.netrc").expanduser()
    except RuntimeError:  # no home directory
        if named:
            raise ConfigError(f"cannot read {named}: there is no home directory") from None
        return None
    try:
        found = netrc.netrc(path).authenticators(host.strip("[]"))
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as error:
        # The message of the error may show a password.
        refusal = f"{path}, line {error.lineno}: cannot be parsed"
    except (OSError, UnicodeDecodeError) as error:
        if not named and isinstance(error, OSError):
            return None  # nobody asked for ~/.netrc, and $HOME may belong to another user
        refusal = f"cannot read {path}: {getattr(error, 'strerror', 'not text')}"
    else:
        return f"{found[0]}:{found[2]}" if found else None
    raise ConfigError(refusal)
