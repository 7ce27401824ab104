"""How much memory the tabs of a browser use, and how long a page keeps a person waiting."""

import contextlib
import re
import threading
from pathlib import Path
from typing import Self

from tests.support.browsers import Browser, Tab

# The processes in which pages run, by their command lines.
TABS = {"chromium": rb"--type=renderer(?!.*--extension-process)", "firefox": rb" tab\0*$"}
# Seconds between two looks.
PACE = 0.1
# Looks how far frames are apart: while a script runs, there are none.
BEAT = """() => {
    window.longest = 0;
    let last = performance.now();
    const beat = () => {
        const now = performance.now();
        window.longest = Math.max(window.longest, now - last);
        last = now;
        requestAnimationFrame(beat);
    };
    requestAnimationFrame(beat);
}"""


def below(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    with contextlib.suppress(OSError):
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text(encoding="ascii").split()
        ]
        return children + [one for child in children for one in below(child)]
    return []


def memory(browser: Browser) -> int:
    """The memory in bytes of the process that uses most of those in which pages run."""
    largest = 0
    for pid in below(browser.pid):
        with contextlib.suppress(OSError):
            if re.search(TABS[browser.kind], Path(f"/proc/{pid}/cmdline").read_bytes(), re.DOTALL):
                found = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
                kib = sum(map(int, re.findall(r"^(?:Private_Clean|Private_Dirty): +(\d+) kB", found, re.M)))
                largest = max(largest, kib << 10)
    return largest


class Peak:
    """Watches the memory of tabs: `bytes` is the most that one process had for itself (USS)."""

    def __init__(self, browser: Browser) -> None:
        self.bytes = 0
        self._browser = browser
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(PACE):
            self.bytes = max(self.bytes, memory(self._browser))


def watch_frames(tab: Tab) -> None:
    """Begin to measure the pauses between frames."""
    tab.js(BEAT)


def longest_pause(tab: Tab) -> float:
    """The longest pause between two frames so far, in milliseconds."""
    longest: float = tab.js("() => longest")
    return longest
