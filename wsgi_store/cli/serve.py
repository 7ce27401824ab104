"""`wsgi-store serve`: gunicorn with the settings that come with this package."""

import os
import sys

import click

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:wsgi_store.gunicorn_conf"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS]")
def serve(arguments: tuple[str, ...]) -> None:
    """Run a server on http://127.0.0.1:8000 with its data in ./store.

    Settings are the environment variables WSGI_STORE_…; what stands behind -- goes to gunicorn:

    \b
        WSGI_STORE_ROOT=/srv/store wsgi-store serve -- --bind :9000 --workers 4
    """
    # In the place of this process: signals and the status are gunicorn's.
    os.execv(COMMAND[0], [*COMMAND, *arguments])
