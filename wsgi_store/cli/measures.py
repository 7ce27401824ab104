"""Sizes, times and numbers, as people write and read them."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def measure(
    name: str, parse: Callable[[str], float], help_: str, default: str | None = None
) -> Callable[[F], F]:
    """An option whose value is a size or a time."""

    def read(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}, not {value!r}") from None

    kind = parse.__name__[6:].upper()
    return click.option(
        name, metavar=kind, callback=read, help=help_, default=default, show_default=default is not None
    )


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number of things, such as 1 blob and 2 blobs."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
