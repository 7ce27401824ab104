"""The table of docs/page-cases.md; `python -m tests.page.table` writes it."""

import importlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.documents import with_table
from tests.support.browsers import PROGRAMS
from tests.support.servers import PROJECT

PAGE = PROJECT / "docs" / "page-cases.md"


def cases() -> Iterator[tuple[str, str, dict[str, str]]]:
    """The subject of each case, what it says, and what each browser does."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.page.{path.stem}")
        for name, test in vars(module).items():
            if name.startswith("test_") and hasattr(module, "pytestmark"):
                results = dict.fromkeys(PROGRAMS, "yes")
                for mark in getattr(test, "pytestmark", []):
                    if mark.name == "only":
                        only, why = mark.args
                        results = {kind: "yes" if kind == only else f"no: {why}" for kind in PROGRAMS}
                yield (module.__doc__ or "").strip(), (test.__doc__ or "").strip(), results


def table() -> str:
    """The table of all cases."""
    lines = [
        f"| subject | case | {' | '.join(kind.capitalize() for kind in PROGRAMS)} |",
        f"|---|---|{'---|' * len(PROGRAMS)}",
    ]
    before = ""
    for subject, case, results in cases():
        shown = "" if subject == before else subject.rstrip(".")
        lines.append(f"| {shown} | {case.rstrip('.')} | {' | '.join(results.values())} |")
        before = subject
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE, table()), encoding="utf-8")
