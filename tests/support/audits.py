"""What axe-core finds in a page, and what people who see, point or move less than others would miss in it."""

from typing import Any

from tests.support.browsers import Tab
from tests.support.node import DIRECTORY
from tests.support.servers import PROJECT

AXE = DIRECTORY / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = PROJECT / "tests" / "page" / "looks.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async (tags) => {
    const { violations, incomplete } = await axe.run(document, {
        runOnly: tags, resultTypes: ["violations", "incomplete"], rules: { "target-size": { enabled: true } },
    });
    const why = ({ any, all, none }) => [...any, ...all, ...none].map((it) => it.message).join("; ");
    const told = (found) => found.flatMap(({ id, nodes }) => nodes.map((node) =>
        [id, `${node.target.join(" ")} ${node.html.slice(0, 100)} ${why(node)}`]));
    return [told(violations), told(incomplete)];
}"""
# Width and height of a desk, and of the same window at 400 %, which is as wide as the smallest phone.
DESK = (1280, 900)
PHONE = (320, 640)
ZOOMED = {"200 %": (640, 450), "400 %": (320, 225)}
HUGE = (3840, 2160)
SCHEMES = ("light", "dark")
# Changes the language in place, also behind a dialog.
SWITCH = "(language) => document.querySelector(`.top a[hreflang='${language}']`).click()"
# Characters a line; WCAG 1.4.8 asks for 80, and a proportional font has a few more of them.
LINE = 100
# The Tab key goes on from where the focus or the last click was.
BEGINNING = """() => {
    document.activeElement.blur();
    const all = document.querySelector("dialog[open]") ?? document.body;
    all.tabIndex = -1;
    all.focus();
    all.removeAttribute("tabindex");
}"""
# Stops of the Tab key at most.
STOPS = 150


def feature(name: str, value: str) -> dict[str, str]:
    """A feature of media queries for `emulateMediaFeatures`."""
    return {"name": f"prefers-{name}" if name != "forced-colors" else name, "value": value}


STILL = feature("reduced-motion", "reduce")
FORCED = feature("forced-colors", "active")


class Audit:
    """Looks at states of a page in a tab; `faults` has what it found, `doubts` what axe-core left open."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.faults: list[str] = []
        self.doubts: list[str] = []
        self.runs = 0

    def look(self, state: str, *languages: str) -> None:
        """Look at the page as it is, in both schemes, on a desk and on a phone, in these languages."""
        if not self.tab.js("() => 'looks' in globalThis"):
            # Puppeteer hands both to the page beside its policy, which stays as it is.
            self.tab.page.call("evaluate", AXE.read_text(encoding="utf-8"))
            self.tab.page.call("evaluate", LOOKS.read_text(encoding="utf-8"))
        for language in languages or [""]:
            if language:
                self.tab.js(SWITCH, language)
                self.tab.until("(wanted) => document.documentElement.lang === wanted", language)
            for scheme in SCHEMES:
                self.tab.page.call("emulateMediaFeatures", [STILL, feature("color-scheme", scheme)])
                for size in (DESK, PHONE):
                    self.tab.size(*size)
                    self._axe(f"{state}, {language}, {scheme}, {size[0]} px")
            self._layout(f"{state}, {language}")

    def _axe(self, where: str) -> None:
        self.runs += 1
        violations, incomplete = self.tab.js(RUN, TAGS)
        self.faults += [f"{where}: {rule}: {what}" for rule, what in violations]
        self.doubts += [f"{where}: {rule}: {what}" for rule, what in incomplete]

    def _layout(self, state: str) -> None:
        self.tab.page.call("emulateMediaFeatures", [STILL])
        for how, size in {"phone": PHONE, **ZOOMED, "desk": DESK, "huge": HUGE}.items():
            self.tab.size(*size)
            self._see(f"{state}, {how}", "scrolling", "cut", "overlapping")
            self._see(f"{state}, {how}", "moving")
            self._see(f"{state}, {how}", "small", 24, 20)
            if how == "huge":
                self._see(f"{state}, {how}", "long", LINE)
            if how in ("phone", "desk"):
                self._see_spaced(f"{state}, {how}, spaced")
            if how == "phone":
                self._see_touched(f"{state}, {how}, touched")
        self.tab.size(*DESK)

    def _see(self, where: str, *looks: str | int) -> None:
        names = [one for one in looks if isinstance(one, str)]
        values = [one for one in looks if isinstance(one, int)]
        for name in names:
            found = self.tab.js("(name, values) => looks[name](...values)", name, values)
            self.faults += [f"{where}: {name}: {one}" for one in found]

    def _see_spaced(self, where: str) -> None:
        self.tab.js("() => looks.space(true)")
        self._see(where, "scrolling", "cut", "overlapping")
        self.tab.js("() => looks.space(false)")

    def _see_touched(self, where: str) -> None:
        session = self.tab.page.call("createCDPSession")
        touch = "Emulation.setTouchEmulationEnabled"
        session.call("send", touch, {"enabled": True, "maxTouchPoints": 1})
        assert self.tab.js("() => matchMedia('(pointer: coarse)').matches")
        self._see(where, "scrolling")
        self._see(where, "small", 44, 24)
        session.call("send", touch, {"enabled": False})
        session.call("detach")

    def walk(self, state: str) -> None:
        """Go through all that can have the focus by the Tab key, in both schemes and in forced colours."""
        for media in (feature("color-scheme", "light"), feature("color-scheme", "dark"), FORCED):
            self.tab.page.call("emulateMediaFeatures", [STILL, media])
            self.tab.js(BEGINNING)
            reached: list[Any] = []
            for _ in range(STOPS):
                self.tab.press("Tab")
                told = self.tab.js("() => looks.focus()")
                if not told or told in reached[:1]:
                    break
                reached.append(told)
            self.faults += [f"{state}, {media['value']}: {one}" for one in reached if not one.endswith(": ")]
            count = self.tab.js("() => looks.targets()")
            if len(reached) < count:
                self.faults.append(f"{state}: Tab reaches {len(reached)} of {count}: {reached}")
        self.tab.page.call("emulateMediaFeatures", [STILL])
