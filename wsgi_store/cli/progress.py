"""Progress bars on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """A bar that appears with its first bytes; threads may share it."""

    def __init__(self, bars: "Progress | None", what: str, total: int | None) -> None:
        self._bars = bars
        self._task: "TaskID | None" = (
            None if bars is None else bars.add_task(what, total=total, visible=False)
        )

    def advance(self, added: int) -> None:
        """Add bytes that are done."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=added, visible=True)

    def expect(self, more: int) -> None:
        """Add bytes that are still to come."""
        if self._bars is not None and self._task is not None:
            total = self._bars.tasks[self._task].total or 0
            self._bars.update(self._task, total=total + more, visible=True)


class Bars:
    """The bars of a command; without rich's `bars` they show nothing."""

    def __init__(self, bars: "Progress | None") -> None:
        self._bars = bars

    def add(self, what: str, total: int | None = None) -> Bar:
        """Add a bar; `total`, in bytes, is None if unknown."""
        return Bar(self._bars, what, total)


@contextmanager
def bars() -> Iterator[tuple[Bars, Callable[[str], None] | None]]:
    """Show bars; also gives a function that prints above them, if standard output is a terminal too."""
    from rich import progress  # pylint: disable=import-outside-toplevel  # slow to import
    from rich.console import Console  # pylint: disable=import-outside-toplevel

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(
        *columns, console=Console(stderr=True), redirect_stdout=False, transient=True
    ) as shown:

        def above(text: str) -> None:
            shown.console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)

        yield Bars(shown), above if sys.stdout.isatty() else None


def meter(advance: Callable[[int], None]) -> Callable[[int], None]:
    """Return a function that takes the bytes of one transfer so far and advances a bar by the new ones."""
    before = 0

    def tell_so_far(done: int) -> None:
        nonlocal before
        advance(done - before)
        before = done

    return tell_so_far
