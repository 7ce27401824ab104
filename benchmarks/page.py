"""`python -m benchmarks.page`: what the page costs a person, and what it costs a service that has it.

A page in Chromium hashes a file, sends it by a bare `fetch`, and sends it as a person would; one after the
other in an order that changes from round to round, so that ratios are taken within each round.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks import load, needs
from benchmarks.client import MIB, Connection, Payload
from benchmarks.lineup import Unsynced, WSGIStore
from benchmarks.load import SMALL, Load
from benchmarks.report import figures_table, print_goals
from benchmarks.servers import Server, head
from benchmarks.targets import Goal
from benchmarks.work import Bench, Figures, Key, Work, rounds
from tests.support.browsers import Browser, Tab, running

ROUNDS = 5
PLACE = "page"
PAIRED = "GET"
TITLES = {
    "hash": "hashing alone, s",
    "put": "bare fetch, s",
    "page": "the page, s",
    "slower": "the slower of hashing and fetch, s",
    "load": "server time of a page load, ms",
    "requests": "requests of a page load",
}
# The end of a line of the access log: status, bytes, time.
LINE = re.compile(r"GET (/\S*) \d+ \d+ B ([\d.]+) ms")
HASH = """async (selector) => {
    const { digestOf } = await import(new URL("hash.js", document.querySelector("script[src]").src));
    const file = document.querySelector(selector).files[0];
    const begin = performance.now();
    await digestOf(file, "sha256", { signal: new AbortController().signal });
    return performance.now() - begin;
}"""
PUT = """async (selector) => {
    const file = document.querySelector(selector).files[0];
    const begin = performance.now();
    const answer = await fetch("/", { method: "PUT", body: file });
    await answer.json();
    return performance.now() - begin;
}"""
# The field is emptied as soon as the page has its files, so a field of its own is used for the rest.
FIELD = """() => {
    const field = document.createElement("input");
    Object.assign(field, { type: "file", id: "own" });
    document.body.append(field);
    document.querySelector("#files").addEventListener("change", () => { window.begun = performance.now(); });
    new MutationObserver(() => {
        if (document.querySelector("#queue-files [data-hash]")) {
            window.ended ??= performance.now();
        }
    }).observe(document.querySelector("#queue-files"), { subtree: true, childList: true, attributes: true });
}"""


class WithoutPage(Unsynced):
    """This project without the page."""

    title = "wsgi_store, page off"

    def environ(self) -> dict[str, str]:
        """Return the settings, with the page off."""
        return {**super().environ(), "WSGI_STORE_PAGE": "off"}


def goals() -> Iterator[Goal]:
    """Return the goals."""
    page = Key(PLACE, "page", WSGIStore.title)
    yield Goal(
        "the page ÷ the slower of hashing and fetch", 1.2, page, page._replace(work="slower"), at_most=True
    )
    yield Goal("server time of a page load", 100, page._replace(work="load"), at_most=True, unit="ms")
    get = Key(PAIRED, "get", Unsynced.title)
    yield Goal("GET with the page ÷ without", 0.97, get, get._replace(server=WithoutPage.title))


def work(tab: Tab, name: str, file: Path) -> float:
    """Do one work in a page; return its seconds."""
    if name != "page":
        tab.js(FIELD)
        tab.choose("#own", file)
        return float(tab.js(HASH if name == "hash" else PUT, "#own")) / 1000
    tab.js(FIELD)
    tab.choose("#files", file)
    return float(tab.until("() => window.ended && window.ended - window.begun", seconds=300)) / 1000


def measure(browser: Browser, server: Server, file: Path, bench: Bench) -> None:
    """Do all works in each round."""
    names = ["hash", "put", "page"]
    for number in range(bench.rounds):
        print(f"{PLACE}: round {number + 1} of {bench.rounds}", file=sys.stderr)
        seconds = {}
        for name in names[number % 3 :] + names[: number % 3]:
            # The same bytes again would not be sent.
            with file.open("r+b") as data:
                data.write(os.urandom(64))
            print(f"{PLACE}: {name}", file=sys.stderr)
            with browser.profile() as profile:
                tab = profile.tab(f"http://127.0.0.1:{server.port}/")
                seconds[name] = work(tab, name, file)
            _empty(server)
        seconds["slower"] = max(seconds["hash"], seconds["put"])
        for name, value in seconds.items():
            bench.figures[Key(PLACE, name, WSGIStore.title)][number] = value


def _empty(server: Server) -> None:
    for blob in server.data.glob("??/*"):
        blob.unlink()


def loads(browser: Browser, server: Server, figures: Figures, count: int) -> None:
    """Load the page in fresh profiles, and sum up what the server says of each request."""
    for number in range(count):
        log = server.directory / "log"
        begin = log.stat().st_size
        with browser.profile() as profile:
            tab = profile.tab()
            tab.go(f"http://127.0.0.1:{server.port}/", "networkidle0")
        text = log.read_text(errors="replace")[begin:]
        found = [(path, float(time)) for path, time in LINE.findall(text)]
        if number == 0:
            print("\n".join(path for path, _ in found), file=sys.stderr)
        figures[Key(PLACE, "load", WSGIStore.title)][number] = sum(time for _, time in found)
        figures[Key(PLACE, "requests", WSGIStore.title)][number] = len(found)


def get(server: Server, bench: Bench) -> Load:
    """Load a small blob many times."""
    return load.get(server, bench.small, bench.seconds)


def paired(directory: Path, bench: Bench) -> None:
    """Compare GET of a small blob with the page and without."""
    small = os.urandom(SMALL)
    with ExitStack() as stack:
        servers: list[Server] = [kind(directory / kind.__name__) for kind in (Unsynced, WithoutPage)]
        for server in servers:
            stack.enter_context(server)
            with Connection(server.port) as connection:
                answer = connection.ask(server.request("small", len(small)) + small)
                bench.small = answer.body.decode().partition('"hash":')[2].strip(' "')[:64]
            with Connection(server.port) as connection:
                connection.ask(head("GET", "/", "Accept: text/html"))
            server.keep()
        rounds(PAIRED, servers, [Work("get", "GET of 4 KiB, req/s", get, lambda server: True)], bench)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=2, help="of each load by wrk; default: %(default)s")
    parser.add_argument("--size", type=int, default=1024, help="of the file in MiB; default: %(default)s")
    parser.add_argument("--at", type=Path, default="/dev/shm", help="where to make the file and the stores")
    return parser.parse_args()


def main() -> None:
    """Measure and print the tables."""
    options = arguments()
    needs.require("benchmarks.page", ["wrk", "chromium"])
    # SystemExit stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="page-", dir=options.at)))
        # The first round warms up.
        payload = stack.enter_context(closing(Payload(directory)))
        bench = Bench(payload, options.rounds + 1, options.size * MIB, 0, options.seconds)
        paired(directory, bench)
        file = directory / "film.mkv"
        with file.open("wb") as data:
            for _ in range(options.size):
                data.write(os.urandom(MIB))
        browser = stack.enter_context(running("chromium"))
        server = stack.enter_context(WSGIStore(directory / "store"))
        loads(browser, server, bench.figures, bench.rounds)
        measure(browser, server, file, bench)
    print_goals(goals(), bench.figures, options.rounds)
    print(figures_table(bench.figures, PLACE, TITLES, WSGIStore.title), "\n")
    print(figures_table(bench.figures, PAIRED, {"get": "GET of 4 KiB, req/s"}, Unsynced.title), "\n")


if __name__ == "__main__":
    main()
