"""What README.md and docs/ say is what the code does: examples run, tables are those of the code."""

import hashlib
import os
import pkgutil
import re
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import servers
from tests.support.calling import call
from tests.support.commands import environment, install
from tests.support.documents import (
    PAGES,
    PROJECT,
    README,
    RUSSIAN,
    anchors,
    blocks,
    examples,
    prose,
    read,
    table,
)
from wsgi_store.assembly import create_app
from wsgi_store.cli.main import COMMANDS
from wsgi_store.cli.output import EXITS
from wsgi_store.config import Config, MetricsAccess, variable
from wsgi_store.errors import BY_CODE
from wsgi_store.web.routes import URLS

EXAMPLES = PROJECT / "examples"
ADDRESS = "127.0.0.1:8000"
# Stands for what differs from run to run: part of a line or, alone on a line, any lines.
VARIES = "…"
# Of the blocks: commands, what they print, and pieces of files.
LANGUAGES = {"sh", "text", "python", "nginx", "ini", "json", "yaml", "html", "javascript"}
# Of the site: what Sphinx puts in their place.
LANGUAGES |= {"{include}", "{toctree}", "{eval-rst}"}
# What would install the package from an index.
INDEX = re.compile(r"""install ["'`]*wsgi-store(\[[a-z0-9,]+\])?["'`]*(?! @)""")
# Where files of this project are.
FOLDERS = ("deploy", "tests", "docs", "benchmarks", "examples", "wsgi_store")
SETTINGS = {variable(row) for row in fields(Config)} | {"WSGI_STORE_URL", "WSGI_STORE_TOKEN"}
# Pages about the code, which name its files without the package.
ABOUT_CODE = [
    page for page in PAGES if page.startswith(("docs/architecture/", "docs/decisions/", "CONTRIBUTING"))
]
# Puts the command on the path of a shell.
ON_PATH = 'export PATH="$PWD/.venv/bin:$PATH"\n'


def pattern(output: str) -> str:
    """A regular expression for an output in which parts vary."""
    lines = []
    for line in output.splitlines():
        if line == VARIES:
            lines.append(r"(?:.*\n)+?")
        else:
            lines.append(".+".join(map(re.escape, line.split(VARIES))) + r"\n")
    return "".join(lines)


def bash(commands: str, directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run commands as a reader would, each well; no file in the home directory has a say in it."""
    return subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=directory,
        env=environment(directory, **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("page", [page for page in PAGES if list(examples(page))])
def test_the_examples_run(page: str, tmp_path: Path) -> None:
    """A page's blocks, run in order against the shipped configuration, print what is shown below them."""
    # Where `make serve` leaves the command.
    programs = tmp_path / ".venv" / "bin"
    programs.parent.mkdir()
    install(programs)
    path = f"{programs}:{os.environ['PATH']}"
    with servers.gunicorn(tmp_path) as server:
        here = f"127.0.0.1:{server.port}"
        for commands, output in examples(page):
            env = {"WSGI_STORE_URL": f"http://{here}"}
            if not commands.startswith(ON_PATH):
                env["PATH"] = path
            result = bash(commands.replace(ADDRESS, here), tmp_path, **env)
            # The empty line that ends the header of an answer is not shown.
            printed = re.sub(r"\n\n\Z", "\n", result.stdout)
            assert re.fullmatch(pattern(output.replace(ADDRESS, here)), printed), (commands, result.stdout)
            assert result.returncode == 0, commands


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_pasted(page: str) -> None:
    """A block of commands holds commands and nothing else: no prompts, and no output between them."""
    for language, block in re.findall(r"^```(\S*).*\n((?s:.*?))^```$", read(page), re.M):
        assert language in LANGUAGES, block
        assert language != "sh" or not re.search(r"^([$#%>] |\{|HTTP/)", block, re.M), block


def test_nothing_is_promised_of_a_package_index() -> None:
    """The package is on none: what installs it names this directory or a repository."""
    for folder in ("wsgi_store", "deploy", "docs", "benchmarks", "examples"):
        for path in PROJECT.glob(f"{folder}/**/*"):
            if path.suffix in {".py", ".md", ".ini", ".conf", ".service", ".yml"}:
                assert not INDEX.search(path.read_text()), path
    for name in (README, RUSSIAN, "Makefile", "pyproject.toml"):
        assert not INDEX.search((PROJECT / name).read_text()), name


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_a_large_file_needs_no_memory(tmp_path: Path) -> None:
    """The way to send a file larger than memory is one; the short way is not, which is why there are two."""
    size = 64 << 20
    (tmp_path / "large.txt").touch()
    os.truncate(tmp_path / "large.txt", size)
    (block,) = [commands for commands, _ in examples("docs/api.md") if "< large.txt" in commands]
    (command,) = [line for line in block.splitlines() if "< large.txt" in line]
    with servers.gunicorn(tmp_path) as server:
        here = f"127.0.0.1:{server.port}"
        little = f"ulimit -d {size >> 11}"  # kilobytes: half the file
        result = bash(f"{little}; {command.replace(ADDRESS, here)}", tmp_path)
        assert (result.returncode, len(result.stdout)) == (0, 33), result.stdout
        assert bash(f"{little}; curl -s --data-binary @large.txt http://{here}/", tmp_path).returncode


def test_no_example_is_left_out() -> None:
    """Requests are shown in blocks that are run, and in no others; each command is shown."""
    run = {page: "".join(commands for commands, _ in examples(page)) for page in PAGES}
    for page in PAGES:
        assert read(page).count("curl -") == run[page].count("curl -"), page
    for name in COMMANDS.keys() - {"serve"}:
        assert f"wsgi-store {name} " in "".join(run.values()), name


@pytest.mark.parametrize(
    ("output", "printed", "fits"),
    [
        ("a…c\n", "abc\n", True),
        ("a…c\n", "ac\n", False),
        ("a.c\n", "abc\n", False),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n", "a\nb\n", False),
        ("", "a\n", False),
    ],
)
def test_only_what_is_marked_may_vary(output: str, printed: str, fits: bool) -> None:
    """The comparison of outputs is exact but for the mark."""
    assert bool(re.fullmatch(pattern(output), printed)) is fits


def test_the_check_finds_damage(tmp_path: Path) -> None:
    """The command that checks a store is silent over a good one and names a damaged file."""
    (command,) = [command for command, _ in examples("docs/operations.md") if "find [0-9a-f]" in command]
    for data in (b"good", b"bad"):
        name = hashlib.md5(data).hexdigest()
        path = tmp_path / "store" / name[:2] / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    (tmp_path / "store" / "store.json").write_text("{}")
    result = bash(command, tmp_path)
    assert (result.returncode, result.stdout) == (0, "")
    path.write_bytes(b"worse")
    result = bash(command, tmp_path)
    assert result.returncode == 1
    assert f"{name[:2]}/{name}: FAILED\n" in result.stdout


def test_the_settings_are_those_of_the_table() -> None:
    """Names, defaults and help are those of Config, in its order."""
    rows = table("docs/settings.md", "Settings")
    settings = {variable(row): row for row in fields(Config)}
    assert [name for name, _, _ in rows] == [f"`{name}`" for name in settings]
    for name, default, help_ in rows:
        row = settings[name.strip("`")]
        assert row.metadata["parse"](default.strip("`")) == row.default, name
        assert help_ == row.metadata["help"], name


def test_the_errors_are_those_of_the_table() -> None:
    """Codes and statuses are those of the exceptions."""
    assert sorted((code, status) for code, status, _ in table("docs/api.md", "Errors")) == sorted(
        (f"`{code}`", str(kind.status)) for code, kind in BY_CODE.items()
    )


def test_the_exit_statuses_are_those_of_the_table() -> None:
    """Statuses and meanings are those of the command, in its order."""
    assert table("docs/command.md", "Exit statuses") == [
        [str(exit_.status), exit_.meaning] for exit_ in EXITS
    ]


def test_the_urls_are_those_of_the_table() -> None:
    """Methods and paths are those of the application, in its order."""
    paths = [(route.method, re.sub("<[a-z]+:([a-z]+)_?>", r"<\1>", route.path)) for route in URLS]
    assert [(method, path.strip("`")) for method, path, _ in table("docs/api.md", "All requests")] == paths


@pytest.mark.parametrize("page", PAGES)
def test_the_code_is_that_of_the_examples(page: str) -> None:
    """Each line of Python in it is a line of an example that is run elsewhere."""
    # What is said to mypy alone is left out.
    texts = {path.name: re.sub("  # type: .*", "", path.read_text()) for path in EXAMPLES.glob("*.py")}
    for block in blocks(page, "python"):
        wanted = {line.strip() for line in block.splitlines()}
        missing = {
            name: wanted - {line.strip() for line in text.splitlines()} for name, text in texts.items()
        }
        assert not min(missing.values(), key=len), missing


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page: str) -> None:
    """Files and headings that are linked to are there; addresses elsewhere are whole and use TLS."""
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if ":" in target:
            url = urlsplit(target)
            assert url.scheme == "https" and "." in url.netloc and not url.username, target
            continue
        path, _, anchor = target.partition("#")
        there = ((PROJECT / page).parent / path).resolve() if path else PROJECT / page
        assert there.exists(), target
        assert not anchor or anchor in anchors(str(there.relative_to(PROJECT))), target


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_is_there(page: str) -> None:
    """Paths, modules, settings, commands and metrics that a document names exist."""
    text = read(page)
    for path in re.findall(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w", text):
        assert (PROJECT / path).exists(), path
    for name in re.findall(r"(?<![\w/])wsgi_store(?:\.\w+)+", text):
        assert pkgutil.resolve_name(name) is not None, name
    for name in re.findall(r"(?<![\w])WSGI_STORE_[A-Z0-9_]*[A-Z0-9]\b(?!…)", text):
        assert name in SETTINGS, name
    for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|json))`", text) if page in ABOUT_CODE else ():
        assert (PROJECT / name).exists() or any(PROJECT.glob(f"wsgi_store/**/{name}")), name
    for name in re.findall(r"`wsgi-store ([a-z]+)", text):
        assert name in COMMANDS, name


def test_the_figures_are_those_of_the_table(config: Config) -> None:
    """Each figure of /metrics has its place in the table, and each name in the table is a figure."""
    application = create_app(replace(config, metrics=MetricsAccess.PUBLIC))
    told = call(application, path="/metrics").body.decode()
    figures = set(re.findall(r"^# TYPE (wsgi_store_\w+?)(?:_created)? ", told, re.M))
    rows = table("docs/metrics.md", "Metrics and alerts")
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == figures


def skeleton(page: str) -> dict[str, list[str]]:
    """What a translation keeps: blocks, headings, tables and lists by their kind, links, and code."""
    text = prose(page)
    links = re.findall(r"\]\(([^)]+)\)", text)
    return {
        "blocks": re.findall(r"^```.*?^```$", read(page), re.M | re.S),
        "lines": re.findall(r"^(?:#+ |- \*\*|\|)", text, re.M),
        "links": [link for link in links if link not in (README, RUSSIAN)],
        "code": sorted(re.findall(r"`[^`]+`", text)),
    }


def test_the_translation_says_the_same() -> None:
    """README.ru.md has README's commands, outputs, tables, lists, links and names, in the same order."""
    assert skeleton(RUSSIAN) == skeleton(README)
    rows = [[line for line in prose(page).splitlines() if line.startswith("|")] for page in (README, RUSSIAN)]
    for one, other in zip(*rows, strict=True):
        assert one.count("|") == other.count("|")
        for kept in (r"\]\([^)]+\)", r"`[^`]+`"):
            assert re.findall(kept, one) == re.findall(kept, other)


def test_the_decisions_are_whole() -> None:
    """Each record has its number, and the sections that a reader looks for."""
    pages = [page for page in PAGES if page.startswith("docs/decisions/0")]
    assert pages
    for page in pages:
        number = int(Path(page).name[:4])
        assert re.match(rf"# {number}\. ", read(page)), page
        assert {"context", "decision", "consequences"} <= anchors(page), page
