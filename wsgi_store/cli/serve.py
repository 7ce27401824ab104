"""The command that runs a server: serve."""

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

    The environment variables WSGI_STORE_… are its settings; options after -- go to gunicorn:

    \b
        WSGI_STORE_ROOT=/srv/store wsgi-store serve -- --bind :9000 --workers 4
    """
    try:
        os.getcwd()
    except OSError as error:  # gunicorn would print a traceback
        raise ConfigError(f"the current directory: {error.strerror}") from None
    # Not by -m: on SIGUSR2 gunicorn runs its __main__.py, where gunicorn/http hides Python's http.
    (script,) = (str(file.locate()) for file in files("gunicorn") or () if file.name == "gunicorn")
    # gunicorn replaces this process, so that signals reach it and its exit status is kept.
    os.execv(sys.executable, [sys.executable, script, "-c", SETTINGS, *arguments])
