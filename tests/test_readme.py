"""What README.md says is what the code does: its examples run, its tables are those of the code."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import servers
from commands import environment, install

from wsgi_store.app import URLS
from wsgi_store.cli import COMMANDS
from wsgi_store.cli.output import EXITS
from wsgi_store.config import Config, variable
from wsgi_store.problems import STATUS

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
MOUNTING = PROJECT / "tests" / "mounting"
ADDRESS = "127.0.0.1:8000"
# Stands for what differs from run to run: part of a line or, alone on a line, any lines.
VARIES = "…"
# Of the blocks: commands, what they print, and pieces of files.
LANGUAGES = {"sh", "text", "python", "nginx", "ini", "json", "yaml", "html", "javascript"}
# What would install the package from an index.
INDEX = re.compile(r"""install ["'`]*wsgi-store(\[[a-z0-9,]+\])?["'`]*(?! @)""")
# What no test does as it stands: it makes environments, needs root, a domain or a second machine.
ELSEWHERE = [
    "make serve\n",
    "pipx install '.[cli]'\n",
    "python3 -m venv ~/wsgi-store\n",
    "WSGI_STORE_ROOT=/srv/store gunicorn ",
    "WSGI_STORE_ROOT=/srv/store BIND=",
    "rsync ",
    "pip install --editable '.[cli,s3]'\n",
    "wsgi-store put -r store/",
]


def section(heading: str) -> str:
    """The text below a heading, up to the next one of the same level or above."""
    match = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", README, re.M | re.S)
    assert match, heading
    return match[2]


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its head."""
    rows = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def examples() -> Iterator[tuple[str, str]]:
    """Each block of commands but those that cannot be run here, with what is shown as its output."""
    shown = re.findall(r"^```sh\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", README, re.M | re.S)
    left = list(ELSEWHERE)
    for commands, output in shown:
        elsewhere = [begin for begin in left if commands.startswith(begin)]
        if elsewhere:
            left.remove(elsewhere[0])
            assert not output, commands
        else:
            yield commands, output
    assert not left, "not in README.md"


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
def test_the_examples_run(tmp_path: Path) -> None:
    """Every block, run in order against the shipped configuration, prints what is shown below it."""
    shown = list(examples())
    assert len(shown) > 15
    # Where `make serve` leaves the command, which the first block puts on the path.
    programs = tmp_path / ".venv" / "bin"
    programs.parent.mkdir()
    install(programs)
    (first, _), *_ = shown
    path = f"{programs}:{os.environ['PATH']}"
    with servers.gunicorn(tmp_path) as server:
        for commands, output in shown:
            here = f"127.0.0.1:{server.port}"
            env = {"WSGI_STORE_URL": f"http://{here}"}
            if commands != first:
                env["PATH"] = path
            result = bash(commands.replace(ADDRESS, here), tmp_path, **env)
            # The empty line that ends the header of an answer is not shown.
            printed = re.sub(r"\n\n\Z", "\n", result.stdout)
            assert re.fullmatch(pattern(output.replace(ADDRESS, here)), printed), (commands, result.stdout)
            assert result.returncode == 0, commands


@pytest.mark.parametrize(
    "path", [PROJECT / "README.md", *PROJECT.glob("docs/*.md")], ids=lambda path: path.name
)
def test_commands_can_be_pasted(path: Path) -> None:
    """A block of commands holds commands and nothing else: no prompts, and no output between them."""
    for language, block in re.findall(r"^```(.*)\n((?s:.*?))^```$", path.read_text(), re.M):
        assert language in LANGUAGES, block
        assert language != "sh" or not re.search(r"^([$#%>] |\{|HTTP/)", block, re.M), block


def test_nothing_is_promised_of_a_package_index() -> None:
    """The package is on none: what installs it names this directory or a repository."""
    for folder in ("wsgi_store", "deploy", "docs", "benchmarks", "tests/mounting"):
        for path in PROJECT.glob(f"{folder}/**/*"):
            if path.suffix in {".py", ".md", ".ini", ".conf", ".service", ".yml"}:
                assert not INDEX.search(path.read_text()), path
    for name in ("README.md", "Makefile", "pyproject.toml"):
        assert not INDEX.search((PROJECT / name).read_text()), name


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_a_large_file_needs_no_memory(tmp_path: Path) -> None:
    """The way to send a file larger than memory is one; the short way is not, which is why there are two."""
    size = 64 << 20
    (tmp_path / "large.txt").touch()
    os.truncate(tmp_path / "large.txt", size)
    (block,) = [commands for commands, _ in examples() if "< large.txt" in commands]
    (command,) = [line for line in block.splitlines() if "< large.txt" in line]
    with servers.gunicorn(tmp_path) as server:
        here = f"127.0.0.1:{server.port}"
        little = f"ulimit -d {size >> 11}"  # kilobytes: half the file
        result = bash(f"{little}; {command.replace(ADDRESS, here)}", tmp_path)
        assert (result.returncode, len(result.stdout)) == (0, 33), result.stdout
        assert bash(f"{little}; curl -s --data-binary @large.txt http://{here}/", tmp_path).returncode


def test_no_example_is_left_out() -> None:
    """Requests are shown in blocks that are run, and in no others; each command is shown."""
    run = "".join(commands for commands, _ in examples())
    assert README.count("curl -") == run.count("curl -")
    for name in COMMANDS.keys() - {"serve"}:
        assert f"wsgi-store {name} " in run, name


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
    (command,) = [command for command, _ in examples() if "find [0-9a-f]" in command]
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
    rows = table("Settings")
    settings = {variable(row): row for row in fields(Config)}
    assert [name for name, _, _ in rows] == [f"`{name}`" for name in settings]
    for name, default, help_ in rows:
        row = settings[name.strip("`")]
        assert row.metadata["parse"](default.strip("`")) == row.default, name
        assert help_ == row.metadata["help"], name


def test_the_errors_are_those_of_the_table() -> None:
    """Codes and statuses are those of the application, in its order."""
    assert [(code, status) for code, status, _ in table("Errors")] == [
        (f"`{code}`", str(status)) for status, code in STATUS.values()
    ]


def test_the_exit_statuses_are_those_of_the_table() -> None:
    """Statuses and meanings are those of the command, in its order."""
    assert table("The command") == [[str(exit_.status), exit_.meaning] for exit_ in EXITS]


def test_the_urls_are_those_of_the_table() -> None:
    """Methods and paths are those of the application, in its order."""
    paths = [(route.method, re.sub("<[a-z]+:([a-z]+)_?>", r"<\1>", route.path)) for route in URLS]
    assert [(method, path.strip("`")) for method, path, _ in table("All of it")] == paths


def test_the_code_is_that_of_the_mounting_examples() -> None:
    """Each line of Python in it is a line of an example that is run elsewhere."""
    for block in blocks("python"):
        wanted = {line.strip() for line in block.splitlines()}
        texts = {path.name: path.read_text() for path in MOUNTING.glob("*.py")}
        missing = {
            name: wanted - {line.strip() for line in text.splitlines()} for name, text in texts.items()
        }
        assert not min(missing.values(), key=len), missing


def test_the_links_lead_somewhere() -> None:
    """Files and headings that are linked to are there."""
    for target in re.findall(r"\]\(([^)]+)\)", README):
        path, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        assert not path or (PROJECT / path).exists(), target
        if anchor:
            text = (PROJECT / path).read_text(encoding="utf-8") if path else README
            headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
            names = [re.sub("[^a-z0-9 _-]", "", heading.lower()) for heading in headings]
            assert anchor in [name.replace(" ", "-") for name in names], target
    for path in re.findall(r"(?:deploy|tests)/[\w./-]*\w", README):
        assert (PROJECT / path).exists(), path
