"""The command `get -r`: folders that come back."""

import os
import sys
from typing import TYPE_CHECKING, Any

from wsgi_store.cli.output import Output, counted
from wsgi_store.cli.progress import Bar
from wsgi_store.cli.servers import Servers
from wsgi_store.cli.upload import told_of_interruption

if TYPE_CHECKING:
    from wsgi_store.client.tree.restored import Restored


def restore(tree: str, directory: str, *, outward_links: bool, jobs: int, options: dict[str, Any]) -> None:
    """Restore a tree to a directory; ends the command."""
    output = Output([])
    counts = {"written": 0, "there": 0, "failed": 0}
    with Servers(**options, connections=jobs) as servers, output.progress() as bars:
        for client, name in servers.holding((tree,), output):
            restored = client.get_tree(
                name.text,
                directory,
                outward_links=outward_links,
                jobs=jobs,
                progress=_Meter(bars.add("restoring")) if output.live else None,
            )
            with told_of_interruption(lambda: True, output):
                for one in restored:
                    if one.error is not None:
                        counts["failed"] += 1
                        output.failed(one.error, path=os.path.join(directory, one.entry.path))
                    else:
                        counts["written" if one.written else "there"] += 1
                    if output.as_json:
                        output.row(**_row(one))
            text = f"{counted(counts['written'], 'entry', 'entries')} restored, "
            text += f"{counts['there']:,} already there"
            if counts["failed"]:
                text += f", {counts['failed']:,} failed"
            output.summary(text, **counts)
    sys.exit(output.status)


class _Meter:  # pylint: disable=too-few-public-methods  # called like a function
    """Advances a bar by the bytes of a restore."""

    def __init__(self, shown: Bar) -> None:
        self._bar = shown
        self._before: int | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._before is None:
            self._bar.expect(total)
        self._bar.advance(done - (self._before or 0))
        self._before = done


def _row(one: "Restored") -> dict[str, object]:
    entry = one.entry
    row: dict[str, object] = {
        "path": entry.path,
        "kind": entry.kind.value,
        "written": one.written,
        "failed": one.error is not None,
    }
    if entry.hash is not None:
        return {**row, "size": entry.size, "hash": entry.hash.hex}
    return row if entry.target is None else {**row, "target": entry.target}
