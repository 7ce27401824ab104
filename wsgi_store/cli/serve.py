"""`wsgi-store serve`: gunicorn with the settings that come with this package."""

import os
import sys
from importlib.metadata import files

import click

from wsgi_store.errors import ConfigError

SETTINGS = "python:wsgi_store.gunicorn.conf"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS]")
def serve(arguments: tuple[str, ...]) -> None:
    """Run a server on http://127.0.0.1:8000 with its data in ./store.

    Settings are the environment variables WSGI_STORE_…; what stands behind -- goes to gunicorn:

    \b
        WSGI_STORE_ROOT=/srv/store wsgi-store serve -- --bind :9000 --workers 4
    """
    try:
        os.getcwd()
    except OSError as error:  # gunicorn would end in a traceback
        raise ConfigError(f"the current directory: {error.strerror}") from None
    # Not -m: on SIGUSR2 gunicorn would start its __main__.py, beside which its own http hides Python's.
    (script,) = (str(file.locate()) for file in files("gunicorn") or () if file.name == "gunicorn")
    # In the place of this process: signals and the status are gunicorn's.
    os.execv(sys.executable, [sys.executable, script, "-c", SETTINGS, *arguments])
