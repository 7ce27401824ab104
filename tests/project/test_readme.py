"""README.md and docs/ match the code: the examples run, and the tables are complete."""

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
    OF_CLIENTS,
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
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config, variable
from wsgi_store.errors import BY_CODE
from wsgi_store.assembly import METALINK
from wsgi_store.web.routes import URLS

EXAMPLES = PROJECT / "examples"
ADDRESS = "127.0.0.1:8000"
# Stands for varying output: part of a line or, alone on a line, any number of lines.
VARIES = "…"
# Languages of blocks: commands, their output, and parts of files.
LANGUAGES = {"sh", "text", "python", "nginx", "ini", "json", "yaml", "html", "javascript", "php"}
# Directives that Sphinx replaces.
LANGUAGES |= {"{include}", "{toctree}", "{eval-rst}"}
# A command that would install the package from an index.
INDEX = re.compile(r"""install ["'`]*wsgi-store(\[[a-z0-9,]+\])?["'`]*(?! @)""")
# The folders of this project.
FOLDERS = ("deploy", "tests", "docs", "benchmarks", "examples", "wsgi_store")
SETTINGS = {variable(row) for row in fields(Config)} | {"WSGI_STORE_URL", "WSGI_STORE_TOKEN"}
# Pages about the code, where file names omit the package.
ABOUT_CODE = [
    page for page in PAGES if page.startswith(("docs/architecture/", "docs/decisions/", "CONTRIBUTING"))
]
# Adds the command to the PATH of a shell.
ON_PATH = 'export PATH="$PWD/.venv/bin:$PATH"\n'


def pattern(output: str) -> str:
    """A regular expression for output with varying parts."""
    lines = []
    for line in output.splitlines():
        if line == VARIES:
            lines.append(r"(?:.*\n)+?")
        else:
            lines.append(".+".join(map(re.escape, line.split(VARIES))) + r"\n")
    return "".join(lines)


def bash(commands: str, directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run commands as a reader would; stop at the first failure, and ignore files in the home directory."""
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
@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_CLIENTS and list(examples(page))])
def test_the_examples_run(page: str, tmp_path: Path) -> None:
    """The commands of a page, run in order on the shipped configuration, print the output shown below."""
    # The directory where `make serve` installs the command.
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
            # Pages omit the empty line after the header of an answer.
            printed = re.sub(r"\n\n\Z", "\n", result.stdout)
            assert re.fullmatch(pattern(output.replace(ADDRESS, here)), printed), (commands, result.stdout)
            assert result.returncode == 0, commands


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_pasted(page: str) -> None:
    """A block of commands contains only commands, without prompts or output."""
    for language, block in re.findall(r"^```(\S*).*\n((?s:.*?))^```$", read(page), re.M):
        assert language in LANGUAGES, block
        assert language != "sh" or not re.search(r"^([$#%>] |\{|HTTP/)", block, re.M), block


def test_nothing_is_promised_of_a_package_index() -> None:
    """The package is on no index, so every install command names this directory or a repository."""
    for folder in ("wsgi_store", "deploy", "docs", "benchmarks", "examples"):
        for path in PROJECT.glob(f"{folder}/**/*"):
            if path.suffix in {".py", ".md", ".ini", ".conf", ".service", ".yml"}:
                assert not INDEX.search(path.read_text()), path
    for name in (README, RUSSIAN, "Makefile", "pyproject.toml"):
        assert not INDEX.search((PROJECT / name).read_text()), name


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_a_large_file_needs_no_memory(tmp_path: Path) -> None:
    """The documented command uploads a file larger than memory; the short form of curl cannot."""
    size = 64 << 20
    (tmp_path / "large.txt").touch()
    os.truncate(tmp_path / "large.txt", size)
    (block,) = [commands for commands, _ in examples("docs/api.md") if "-T large.txt" in commands]
    (command,) = [line for line in block.splitlines() if "-T large.txt" in line]
    with servers.gunicorn(tmp_path) as server:
        here = f"127.0.0.1:{server.port}"
        little = f"ulimit -d {size >> 11}"  # in KB: half the size of the file
        result = bash(f"{little}; {command.replace(ADDRESS, here)}", tmp_path)
        assert (result.returncode, len(result.stdout)) == (0, 65), result.stdout
        assert bash(f"{little}; curl -s --data-binary @large.txt http://{here}/", tmp_path).returncode


def test_no_example_is_left_out() -> None:
    """Every curl request is in a tested block, and every command has an example."""
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
    """Outputs are compared exactly, except for the marked parts."""
    assert bool(re.fullmatch(pattern(output), printed)) is fits


def test_the_check_finds_damage(tmp_path: Path) -> None:
    """The documented check prints nothing for an intact store, and names a damaged file."""
    (command,) = [command for command, _ in examples("docs/operations.md") if "find [0-9a-f]" in command]
    for data in (b"good", b"bad"):
        name = hashlib.sha256(data).hexdigest()
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


# What a new store gets; a store that is there keeps what it has.
NEW = {"hash": "sha256", "names": "none"}


def test_the_settings_are_those_of_the_table() -> None:
    """The table of settings has the names, defaults and help of Config, in its order."""
    rows = table("docs/settings.md", "Settings")
    settings = {variable(row): row for row in fields(Config)}
    assert [name for name, _, _ in rows] == [f"`{name}`" for name in settings]
    for name, default, help_ in rows:
        row = settings[name.strip("`")]
        if row.name in NEW:
            assert (default, row.default) == (f"the store's; for a new one `{NEW[row.name]}`", None)
        else:
            assert row.metadata["parse"](default.strip("`")) == row.default, name
        assert help_ == row.metadata["help"], name


def test_the_errors_are_those_of_the_table() -> None:
    """The table of errors has the codes and statuses of the exceptions."""
    assert sorted((code, status) for code, status, _ in table("docs/api.md", "Errors")) == sorted(
        (f"`{code}`", str(kind.status)) for code, kind in BY_CODE.items()
    )


def test_the_exit_statuses_are_those_of_the_table() -> None:
    """The table of exit statuses matches the command, in its order."""
    assert table("docs/command.md", "Exit statuses") == [
        [str(exit_.status), exit_.meaning] for exit_ in EXITS
    ]


def test_the_urls_are_those_of_the_table() -> None:
    """The table of requests has the methods and paths of the application, in its order."""
    paths = [
        (route.method, re.sub("<[a-z]+:([a-z]+)_?>", r"<\1>", route.path)) for route in [*URLS, METALINK]
    ]
    assert [(method, path.strip("`")) for method, path, _ in table("docs/api.md", "All requests")] == paths


@pytest.mark.parametrize("page", PAGES)
def test_the_code_is_that_of_the_examples(page: str) -> None:
    """Each line of Python on a page comes from a tested example."""
    # Pages omit comments for mypy.
    texts = {path.name: re.sub("  # type: .*", "", path.read_text()) for path in EXAMPLES.glob("*.py")}
    for block in blocks(page, "python"):
        wanted = {line.strip() for line in block.splitlines()}
        missing = {
            name: wanted - {line.strip() for line in text.splitlines()} for name, text in texts.items()
        }
        assert not min(missing.values(), key=len), missing


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page: str) -> None:
    """Linked files and headings exist; external links use https."""
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
    """The table of metrics has exactly the names in /metrics."""
    application = create_app(replace(config, metrics=MetricsAccess.PUBLIC))
    told = call(application, path="/metrics").body.decode()
    figures = set(re.findall(r"^# TYPE (wsgi_store_\w+?)(?:_created)? ", told, re.M))
    rows = table("docs/metrics.md", "Metrics and alerts")
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == figures


def skeleton(page: str) -> dict[str, list[str]]:
    """The parts that a translation keeps: blocks, headings, tables, lists, links and code."""
    text = prose(page)
    links = re.findall(r"\]\(([^)]+)\)", text)
    return {
        "blocks": re.findall(r"^```.*?^```$", read(page), re.M | re.S),
        "lines": re.findall(r"^(?:#+ |- \*\*|\|)", text, re.M),
        "links": [link for link in links if link not in (README, RUSSIAN)],
        "code": sorted(re.findall(r"`[^`]+`", text)),
    }


def test_the_translation_says_the_same() -> None:
    """README.ru.md has the blocks, tables, lists, links and code of README.md, in the same order."""
    assert skeleton(RUSSIAN) == skeleton(README)
    rows = [[line for line in prose(page).splitlines() if line.startswith("|")] for page in (README, RUSSIAN)]
    for one, other in zip(*rows, strict=True):
        assert one.count("|") == other.count("|")
        for kept in (r"\]\([^)]+\)", r"`[^`]+`"):
            assert re.findall(kept, one) == re.findall(kept, other)


def test_the_decisions_are_whole() -> None:
    """Each decision record has its number and the required sections."""
    pages = [page for page in PAGES if page.startswith("docs/decisions/0")]
    assert pages
    for page in pages:
        number = int(Path(page).name[:4])
        assert re.match(rf"# {number}\. ", read(page)), page
        assert {"context", "decision", "consequences"} <= anchors(page), page
