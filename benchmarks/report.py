"""The figures as tables, and RESULTS.md."""

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import wsgi_store
from benchmarks import lineup, targets
from benchmarks.needs import PATH
from benchmarks.targets import Goal
from benchmarks.work import WORKS, Bench, Figures, Key

RESULTS = Path(__file__).with_name("RESULTS.md")
# This section is written by hand and kept when the rest is rewritten.
BY_HAND = "## Tried, and did not help"
GOAL = ("", "target", "median (range)", "")
TITLES = {work.name: work.title for work in WORKS}
LOADS = ("get", "head", "304", "post")
RATES = {name: f"{title}, {'req/s' if name in LOADS else 'MB/s'}" for name, title in TITLES.items()}
LATENCIES = {f"{name} {part}": f"{TITLES[name]}, {part}, ms" for name in LOADS for part in ("p50", "p99")}
ON_TMPFS = "wsgi_store with durability `none`: nothing is synced, and nobody else syncs."
ON_DISK = """\
wsgi_store and the pipeline limit sync the file and its directory before they answer. No other server
here does: what it has acknowledged is lost in a power failure."""
ALONE = """\
One server at a time; PSS divides shared memory among the processes. The growth is the highest seen
while {transfer} went in, in one upload, or out."""
AS_IT_GROWS = "On tmpfs unless told otherwise, durability `none`, one request at a time."
COSTS = {
    "start": "start to first answer, ms",
    "import": "import, ms",
    "idle": "PSS of all processes, idle, MiB",
    "worker": "PSS of a worker, idle, MiB",
    "growth, upload": "growth of PSS, upload, MiB",
    "growth, download": "growth of PSS, download, MiB",
}
GROWTH = {
    "get": "GET, ms",
    "post": "POST of 4 KiB, ms",
    "delete": "DELETE, ms",
    "walk": "page of /files, in sequence, ms",
    "page": "page of /files, at random, ms",
    "memory": "PSS of all processes, MiB",
    "restart": "start to first answer, ms",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])


def print_goals(goals: Iterable[Goal], figures: Figures, rounds: int) -> None:
    """Forget the first round, which warms up, and print the goals that were measured."""
    for values in figures.values():
        values.pop(0, None)
    rows = [targets.row(goal, figures) for goal in goals if goal.values(figures)]
    print(f"{rounds} rounds, {' '.join(sys.argv[1:])}\n")
    print(table(GOAL, rows), "\n")


def figures_table(figures: Figures, place: str, rows: dict[str, str], ours: str = targets.OURS) -> str:
    """Return medians with their ranges, and the ratio of this project's figure to each server's."""
    servers = {key.server for key in figures if key.place == place and key.work in rows}
    order = sorted(servers, key=lambda server: (server != ours, *_rank(server)))
    lines = []
    for work, title in rows.items():
        cells = [_cell(figures, Key(place, work, server), Key(place, work, ours)) for server in order]
        if any(cells):
            lines.append([title, *(cell or "—" for cell in cells)])
    return table(["", *order], lines) if lines else ""


def _rank(server: str) -> tuple[int, str]:
    titles = [kind.title for kind in lineup.ORDER]
    return titles.index(server) if server in titles else len(titles), server


def _cell(figures: Figures, key: Key, ours: Key) -> str:
    values = figures.get(key, {})
    if not values:
        return ""
    text = _number(statistics.median(values.values()))
    if len(values) > 1:
        text += f" ({_number(min(values.values()))}–{_number(max(values.values()))})"
    if key != ours and "growth," not in key.work:
        ratios = [value / values[n] for n, value in figures.get(ours, {}).items() if values.get(n)]
        if ratios:
            text += f" **{statistics.median(ratios):.2f}×**"
    return text


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(bench: Bench, counts: tuple[str, str], how: str) -> str:
    """Return all but the section written by hand; `counts` are the titles of the two stores."""
    parts = [
        "# Results",
        f"Measured on {date.today()} by `make bench`{how}. {machine()}",
        f"Versions: {versions()}.",
        METHOD.format(size=f"{bench.size >> 20:,} MiB"),
        "![Medians of wsgi_store and its peers](results.svg)",
        "## Targets",
        table(GOAL, [targets.row(goal, bench.figures) for goal in targets.goals(counts)]),
    ]
    for place, title, intro, rows, ours in (
        ("memory", "On tmpfs: the software's own cost", ON_TMPFS, RATES, targets.OURS),
        ("memory", "On tmpfs: latency", "", LATENCIES, targets.OURS),
        ("disk", "On disk: what users get", ON_DISK, RATES, targets.OURS),
        ("disk", "On disk: latency", "", LATENCIES, targets.OURS),
        (
            "alone",
            "Alone: start and memory",
            ALONE.format(transfer=f"{bench.transfer >> 30} GiB"),
            COSTS,
            targets.OURS,
        ),
        ("growth", "As the store grows", AS_IT_GROWS, GROWTH, counts[1]),
    ):
        if found := figures_table(bench.figures, place, rows, ours):
            parts += [f"## {title}", intro, found]
    if bench.failures:
        failures = "\n".join(f"- {failure}" for failure in dict.fromkeys(bench.failures))
        parts += ["## What failed", failures]
    return "\n\n".join(part for part in parts if part)


METHOD = """\
All servers run at once on loopback, two workers each; an idle one costs nothing. A round gives every
server the same work, one after the other in an order that changes from round to round; a figure is the
median of the rounds, its range in parentheses, and the number of times that wsgi_store's figure is
that of the server, computed within each round, in bold. A big file is {size}. The client sends files by
sendfile(2) and lets the kernel discard what it downloads, which leaves the processors to the servers. Small
requests come from wrk over 16 kept connections (HEAD from a loop of its own: wrk waits for the body
that Content-Length announces). All servers write their access logs; those on gunicorn have the settings
of `deploy/gunicorn.conf.py`. Before the measurements each server returned what it was given, byte by
byte.

- *uWSGI*: wsgi_store under uWSGI, with `deploy/uwsgi.ini`
- *limit*: a bare WSGI callable: discards uploads, sends files by sendfile, answers 4 KiB from memory
- *limit, gunicorn's own worker*: the same without this project's worker class: what the server itself allows
- *pipeline limit*: limit, but an upload is read by 1 MiB, hashed, written and named
- *naive Flask*: `request.files["file"].read()`; it takes only forms, which stand in its row of uploads
- *docker-registry*: an upload is a POST and a PUT; copyparty refuses tmpfs, so it is found on disk only
- *bare loop of syncs*: no server: write, fsync, link, fsync of the directory in 2 processes of 8 threads"""


def write(body: str) -> None:
    """Write RESULTS.md and keep the section written by hand."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    _, found, kept = old.partition(BY_HAND)
    RESULTS.write_text(f"{body}\n\n{BY_HAND}{kept if found else chr(10)}", encoding="utf-8")


def machine() -> str:
    """Describe the machine in a sentence."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    name = cpu[1] if cpu else platform.machine()
    return (
        f"{len(os.sched_getaffinity(0))} processors ({name}), {memory:.0f} GiB, Linux {platform.release()}."
    )


def versions() -> str:
    """Return the versions of the compared programs."""
    found = {"wsgi_store": wsgi_store.__version__, "Python": platform.python_version()}
    found |= {name: version(name) for name in ("gunicorn", "werkzeug", "flask", "copyparty")}
    for program, command in {
        "nginx": ["nginx", "-v"],
        "docker-registry": ["docker-registry", "--version"],
        "wrk": ["wrk", "-v"],
    }.items():
        if path := shutil.which(command[0], path=PATH):
            done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
            match = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
            found[program] = match[0] if match else "?"
    return ", ".join(f"{name} {number}" for name, number in found.items())
