"""What a person does on the page, and what they see of it."""

import json
from pathlib import Path
from typing import Any

from tests.support.browsers import Tab
from tests.support.servers import PROJECT

SENTENCES = PROJECT / "wsgi_store" / "web" / "page"
# The line of the upload with a name.
LINE = """(name) => [...document.querySelectorAll("#queue-files > li")]
    .find((line) => line.querySelector("bdi").textContent === name)"""
# The state of that upload; `done` if its line is that of a stored file.
STATE = f"""(name) => {{
    const line = ({LINE})(name);
    return line?.dataset.hash ? "done" : line?.dataset.state ?? null;
}}"""
# Long times are a fortieth of what they are, or a test would wait for minutes.
HASTE = """() => {
    const wait = setTimeout;
    globalThis.setTimeout = (act, time, ...more) => wait(act, time >= 30000 ? time / 40 : time, ...more);
}"""


class Visit:
    """A person at the page in a tab, in one of its languages."""

    def __init__(self, tab: Tab, language: str = "en") -> None:
        self.tab = tab
        self._sentences = json.loads((SENTENCES / f"{language}.json").read_text(encoding="utf-8"))

    def words(self, key: str, **values: Any) -> str:
        """A sentence of the page; of several forms the one for many."""
        sentence = self._sentences[key]
        if isinstance(sentence, dict):
            sentence = sentence["other"]
        return str(sentence).format(**values)

    def choose(self, *paths: Path) -> None:
        """Choose files of this machine."""
        self.tab.choose("#files", *paths)

    def give(self, name: str, content: str, kind: str = "") -> None:
        """Drop a file that only the page has, which may have any name."""
        source = "(name, content, type) => [new File([content], name, { type })]"
        self.tab.drop(self.tab.handle(source, name, content, kind))

    def state(self, name: str) -> str | None:
        """The state of the upload with a name; None if the page shows none."""
        state: str | None = self.tab.js(STATE, name)
        return state

    def until_state(self, name: str, *states: str, seconds: float = 60) -> str:
        """Wait until an upload is in one of these states; returns it."""
        source = f"(name, states) => {{ const is = ({STATE})(name); return states.includes(is) && is; }}"
        state: str = self.tab.until(source, name, list(states), seconds=seconds)
        return state

    def until_stored(self, name: str, seconds: float = 60) -> str:
        """Wait until a file is stored; returns its hash."""
        self.until_state(name, "done", seconds=seconds)
        return str(self.tab.js(f"(name) => ({LINE})(name).dataset.hash", name))

    def offers(self, action: str, name: str) -> bool:
        """Whether the line of a file has a button."""
        source = f"(name, action) => ({LINE})(name).querySelector(`button[data-do='${{action}}']`) !== null"
        return bool(self.tab.js(source, name, action))

    def act(self, action: str, name: str) -> None:
        """Press a button of the line of a file: `pause`, `delete`."""
        source = f"(name, action) => ({LINE})(name).querySelector(`button[data-do='${{action}}']`)"
        self.tab.handle(source, name, action).call("click")

    def press(self, action: str) -> None:
        """Press a button that is there once: `pause-all`."""
        self.tab.click(f"button[data-do='{action}']")

    def enter(self, token: str, *, keep: bool = False) -> None:
        """Enter a token in the dialog that asks for one; `keep` keeps it on the device."""
        self.tab.until("() => document.activeElement.id === 'token'")
        self.tab.press("Control+A")
        self.tab.type(token)
        if keep:
            self.tab.click("dialog input[type=checkbox]")
        self.tab.click("dialog .primary")

    def sees(self, key: str, seconds: float = 30, **values: Any) -> None:
        """Wait until the person sees a sentence."""
        words = self.words(key, **values)
        # Without regard to where lines break.
        source = """(words) => document.body.innerText.replaceAll(/\\s+/g, " ").includes(words)"""
        self.tab.until(source, " ".join(words.split()), seconds=seconds)
