"""Arguments and options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from wsgi_store.cli.output import JSON, QUIET
from wsgi_store.values import parse_time

F = TypeVar("F", bound=Callable[..., Any])


def measure(
    name: str, parse: Callable[[str], float], help_: str, default: str | None = None
) -> Callable[[F], F]:
    """Make an option whose value is a size or a time."""

    def read(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}, not {value!r}") from None

    kind = parse.__name__.removeprefix("parse_").upper()
    return click.option(
        name, metavar=kind, callback=read, help=help_, default=default, show_default=default is not None
    )


hashes_argument = click.argument("hashes", nargs=-1, required=True, metavar="HASH...")
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({JSON: value}),
    help="Print JSON, one object per line; failures too, on standard error.",
)
quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({QUIET: value}),
    help="Print failures only, and show no progress.",
)
url_option = click.option(
    "--url",
    envvar="WSGI_STORE_URL",
    show_envvar=True,
    default="http://127.0.0.1:8000",
    show_default=True,
    help="The URL of the server, with the prefix it is mounted under.",
)
CONNECTION = [
    url_option,
    click.option(
        "--token",
        envvar="WSGI_STORE_TOKEN",
        show_envvar=True,
        help="The token. Other users see it in the list of processes; the variable or a file is safer.",
    ),
    click.option("--token-file", type=click.Path(dir_okay=False), help="A file that holds the token."),
    click.option(
        "--retries", default=4, show_default=True, help="How often to try again what may succeed later."
    ),
    measure("--timeout", parse_time, "How long a connection may be idle, such as 10s.", default="60s"),
    json_option,
]


def remote(command: F) -> F:
    """Give a command the options that `servers.connect` takes, and --json."""
    for option in reversed(CONNECTION):
        command = option(command)
    return command
