"""The documents of this project: their sections, tables and pasteable blocks."""

import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]
README = "README.md"
RUSSIAN = "README.ru.md"
# Every document, except the issue and pull request templates for GitHub.
PAGES = sorted(
    str(path.relative_to(PROJECT))
    for folder in ("*.md", "docs/**/*.md", "benchmarks/*.md")
    for path in PROJECT.glob(folder)
)
# Pages whose commands need the clients of a protocol, see tests/protocols/test_pages.py.
OF_CLIENTS = ["docs/blossom.md", "docs/clients.md", "docs/dvc.md", "docs/lfs.md"]
# Commands that no test can run: they make environments, or need root, a domain or a second machine.
ELSEWHERE = {
    README: ["make serve\n", "pipx install '.[cli]'\n"],
    RUSSIAN: ["make serve\n", "pipx install '.[cli]'\n"],
    "CONTRIBUTING.md": ["make test ARGS='-x tests/test_digest.py'\n", "make test ARGS='-x tests/web"],
    "docs/deployment.md": [
        "pipx install '.[cli]'\n",
        "python3 -m venv ~/wsgi-store\n",
        "WSGI_STORE_ROOT=/srv/store gunicorn ",
        "WSGI_STORE_ROOT=/srv/store BIND=",
    ],
    "docs/object-storage.md": ["pip install --editable '.[cli,s3]'\n", "wsgi-store put -r store/"],
    "docs/operations.md": ["rsync "],
}


def read(page: str) -> str:
    """The text of a page."""
    return (PROJECT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S)


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next heading."""
    match = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", read(page), re.M | re.S)
    assert match, f"{page}: {heading}"
    return match[2]


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its header."""
    rows = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.M | re.S)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    names = (re.sub(r"[^\w -]", "", heading.lower()) for heading in headings)
    return {name.replace(" ", "-") for name in names}


def examples(page: str) -> Iterator[tuple[str, str]]:
    """Each block of commands that can be run here, with the output shown below it."""
    shown = re.findall(r"^```sh\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", read(page), re.M | re.S)
    left = list(ELSEWHERE.get(page, ()))
    for commands, output in shown:
        elsewhere = [begin for begin in left if commands.startswith(begin)]
        if elsewhere:
            left.remove(elsewhere[0])
            assert not output, commands
        else:
            yield commands, output
    assert not left, f"not in {page}"


def with_table(page: Path, made: str) -> str:
    """The text of a page with another table."""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    return "".join([*lines[: rows[0]], made, *lines[rows[-1] + 1 :]])
