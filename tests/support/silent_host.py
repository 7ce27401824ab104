"""A host that never configures logging, and requests with a secret that make this package log.

python -m tests.support.silent_host DIRECTORY [enable]
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from tests.support.calling import call
from wsgi_store.access.grant import EVERYTHING, Grant
from wsgi_store.assembly import create_app
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config

SECRET = "e5c0a8f2"
FIELDS = {"HTTP_AUTHORIZATION": f"Bearer {SECRET}"}


def authorize(environ: Mapping[str, Any]) -> Grant:
    """Raise an exception for a listing, with the secret in variables, messages and causes."""
    token = environ["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    if environ["PATH_INFO"] == "/files":
        try:
            os.stat(f"/proc/{token}")
        except OSError as error:
            error.add_note(token)
            raise ExceptionGroup(token, [ValueError(token), KeyError(token)]) from error
    return EVERYTHING


def main(root: str) -> None:
    """Cause everything that is logged."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = f"{root}/nowhere"  # metrics cannot be shared
    app = create_app(Config(root=root, min_free=0, metrics=MetricsAccess.ON), authorize)
    if "enable" in sys.argv:
        from loguru import logger  # pylint: disable=import-outside-toplevel

        logger.enable("wsgi_store")
    assert call(app, path="/files", **FIELDS).status == 500
    url = call(app, "POST", body=b"whole", **FIELDS).json["url"]
    blob = f"{root}{url[:3]}{url}"
    os.chmod(blob, 0o644)
    os.truncate(blob, 1)
    assert call(app, "POST", body=b"whole", **FIELDS).json["healed"]
    os.rename(root, f"{root}.gone")
    assert call(app, "POST", body=b"other", **FIELDS).status == 503
    os.rename(f"{root}.gone", root)
    tokens = f"{root}/tokens"
    with open(tokens, "w", encoding="utf-8") as file:
        guarded = create_app(Config(root=root, min_free=0, tokens=tokens))
        file.write(SECRET)
    assert call(guarded, path="/files", **FIELDS).status >= 400


if __name__ == "__main__":
    main(sys.argv[1])
