"""The styles of the page: each rule is for something, and what has a class has a rule."""

import re

from wsgi_store.web.page_text import FOLDER

STYLES = (FOLDER / "app.css").read_text(encoding="utf-8")
PAGES = "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.html")))
SCRIPTS = "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js")))
# Names that scripts and tests go by, and that need no look of their own.
BARE = {"access", "share", "stored", "remembered", "ticket-told", "address"}
# How scripts give an element its classes, up to the string with them.
GIVEN = re.compile(
    r"""(?:make\("\w+",|worded\("\w+",\s*"[\w.]+",|spoken\("\w+",|openDialog\(|kind:
    |className\s*=|classList\.\w+\(|"class",)
    \s*(?:"([^"]*)"|`([^`]*)`)""",
    re.VERBOSE,
)


def rules() -> set[str]:
    """The classes that the styles name."""
    selectors = re.sub(r"/\*.*?\*/|url\([^)]*\)|\{[^{}]*\}", " ", STYLES, flags=re.DOTALL)
    return set(re.findall(r"\.(-?[a-z_][\w-]*)", selectors))


def given() -> set[str]:
    """The classes that pages and scripts give to elements."""
    found = set(" ".join(re.findall(r'class="([^"]*)"', PAGES)).split())
    for quoted, made in GIVEN.findall(SCRIPTS):
        # A condition in a template has its classes in strings.
        inner = " ".join(re.findall(r'\$\{[^}]*?"([\w -]+)"[^}]*\}', made))
        fixed = re.sub(r"[\w-]*\$\{[^}]*\}", " ", made)
        found |= set(f"{quoted} {inner} {fixed}".split())
    return found


def pictures() -> set[str]:
    """The classes of the pictures that pages and scripts draw."""
    drawn = re.findall(r'\bicon(?:\(|: | = )"(\w+)"|this\.button\("(\w+)"|\brelabel\(\w+, "(\w+)"', SCRIPTS)
    states = re.search(r"const ICONS = \{(.*?)\}", SCRIPTS, re.DOTALL)
    assert states
    names = {name for found in drawn for name in found if name} | set(re.findall(r'"(\w+)"', states[1]))
    return {f"icon-{name}" for name in names} | set(re.findall(r"icon-\w+", PAGES))


def test_every_rule_is_for_a_class_that_something_has() -> None:
    """No rule is left of what is gone."""
    named = {name for name in rules() if re.search(rf"""["'` ]{name}["'` ]""", PAGES + SCRIPTS)}
    assert rules() - pictures() - named == set()


def test_every_class_has_a_rule_or_is_bare_on_purpose() -> None:
    """What is spelled in one way by the scripts and in another by the styles is found."""
    assert given() - rules() - pictures() == BARE


def test_every_picture_is_drawn_and_every_one_drawn_is_there() -> None:
    """A picture that is not there would be a square."""
    there = {name for name in rules() if name.startswith("icon-")}
    assert pictures() == there
