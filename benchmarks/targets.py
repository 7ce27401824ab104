"""The performance goals, as ratios within one run where possible."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.work import Figures, Key

OURS = "wsgi_store"
UNSYNCED = "wsgi_store, unsynced"
STOCK = "limit, gunicorn's own worker"


@dataclass(frozen=True)
class Goal:
    """A goal: a bound for a figure, or for its ratio to another figure of the same round."""

    title: str
    bound: float
    figure: Key
    other: Key | None = None
    at_most: bool = False
    unit: str = "×"

    def values(self, figures: Figures) -> list[float]:
        """Return the values of all rounds that have one."""
        ours = figures.get(self.figure, {})
        if self.other is None:
            return list(ours.values())
        theirs = figures.get(self.other, {})
        return [value / theirs[number] for number, value in ours.items() if theirs.get(number)]

    def bounds(self) -> str:
        """Return the bound as text."""
        return f"{'≤' if self.at_most else '≥'} {self.bound:g} {self.unit}"

    def verdict(self, value: float) -> str:
        """Return whether a value meets the bound, and the margin."""
        met = value <= self.bound if self.at_most else value >= self.bound
        return f"{'met' if met else '**missed**'} by {abs(value / self.bound - 1):.0%}"


def row(goal: Goal, figures: Figures) -> tuple[str, str, str, str]:
    """Return a row: the goal, its bound, the median with its range, and the verdict."""
    values = goal.values(figures)
    if not values:
        return goal.title, goal.bounds(), "not measured", ""
    value = statistics.median(values)
    digits = ".2f" if goal.unit == "×" else ".1f"
    shown = f"{value:{digits}} ({min(values):{digits}}–{max(values):{digits}})"
    return goal.title, goal.bounds(), shown, goal.verdict(value)


def goals(counts: tuple[str, str]) -> Iterator[Goal]:
    """Return all goals; `counts` are the titles of the small and the large store."""

    yield _ratio("upload ÷ pipeline limit", 1.0, "upload", "pipeline limit")
    yield _ratio("upload ÷ nginx DAV", 1.0, "upload", "nginx")
    yield _ratio("upload ÷ docker-registry", 3.0, "upload", "docker-registry")
    unsynced = Key("disk", "upload", UNSYNCED)
    copyparty = unsynced._replace(server="copyparty")
    yield Goal("upload ÷ copyparty, on disk, unsynced", 3.0, unsynced, copyparty)
    upload = Key("memory", "upload", OURS)
    yield Goal("upload, multipart ÷ raw", 0.8, upload._replace(work="form"), upload)
    yield Goal("upload, chunked ÷ raw", 0.9, upload._replace(work="chunked"), upload)
    yield _ratio("download ÷ limit", 0.95, "download", "limit")
    yield _ratio("range of 64 MiB ÷ limit", 0.95, "middle", "limit")
    yield from _under_uwsgi()
    for work, title in (("get", "GET of 4 KiB"), ("head", "HEAD"), ("304", "GET answered 304")):
        yield _ratio(f"{title} ÷ limit", 0.85, work, "limit")
        yield _ratio(f"{title} ÷ {STOCK}", 0.85, work, STOCK)
        asked = Key("disk", work, OURS)
        yield Goal(f"{title} ÷ copyparty, on disk", 1.0, asked, asked._replace(server="copyparty"))
    yield _ratio("POST of 4 KiB, unsynced ÷ limit", 0.7, "post", "limit")
    yield _ratio(f"POST of 4 KiB, unsynced ÷ {STOCK}", 0.7, "post", STOCK)
    durable = Key("disk", "post", OURS)
    loop = durable._replace(server="bare loop of syncs")
    yield Goal("POST of 4 KiB, durable on disk ÷ bare loop", 0.8, durable, loop)
    for way in ("upload", "download"):
        yield _most(f"memory growth, {way} of a big file", 16, f"growth, {way}", "MiB")
    yield _most("memory of an idle worker", 30, "worker", "MiB")
    yield _most("import wsgi_store.wsgi", 120, "import", "ms")
    small, grown = counts
    for work in ("get", "post", "delete", "walk", "page", "memory", "restart"):
        titles = {"walk": "a page of /files behind the one before", "page": "a page of /files anywhere"}
        title = titles.get(work, work if work in ("memory", "restart") else work.upper())
        yield Goal(
            f"{title} at {grown} ÷ at {small}",
            1.1,
            Key("growth", work, grown),
            Key("growth", work, small),
            at_most=True,
        )
    nginx = Key("memory", "get", "nginx")
    direct = nginx._replace(server="nginx, store's directory")
    yield Goal("nginx from the store's directory ÷ nginx", 0.9, direct, nginx)


def _ratio(title: str, bound: float, work: str, peer: str) -> Goal:
    return Goal(title, bound, Key("memory", work, OURS), Key("memory", work, peer))


def _under_uwsgi() -> Iterator[Goal]:
    for work in ("upload", "chunked", "download"):
        under = Key("memory", work, "uWSGI")
        yield Goal(f"{work} under uWSGI ÷ under gunicorn", 0.5, under, under._replace(server=OURS))


def _most(title: str, bound: float, work: str, unit: str) -> Goal:
    return Goal(title, bound, Key("alone", work, OURS), at_most=True, unit=unit)
