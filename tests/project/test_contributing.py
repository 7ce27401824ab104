"""Contributing and releases: changelog fragments, hooks, workflows, issue forms."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import wsgi_store
from tests.support.documents import PROJECT

FRAGMENTS = PROJECT / "changelog.d"
TYPES = ("security", "added", "changed", "deprecated", "removed", "fixed")
GITHUB = PROJECT / ".github"
RELEASE = GITHUB / "workflows" / "release.yml"


def run(directory: Path, *arguments: str) -> str:
    """Run a tool of this environment; returns what it printed."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(name="copy")
def fixture_copy(tmp_path: Path) -> Path:
    """A copy of the files that a release changes."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(FRAGMENTS, tmp_path / "changelog.d")
    return tmp_path


def fragments() -> list[Path]:
    """All changelog fragments."""
    return sorted(path for path in FRAGMENTS.iterdir() if path.name != "README.md")


def test_fragments() -> None:
    """A fragment is named after an issue or a word and its type, and holds a sentence."""
    # After a release there are none.
    for path in fragments():
        assert re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({'|'.join(TYPES)})\.md", path.name)
        assert path.read_text(encoding="utf-8").rstrip().endswith(".")


def test_a_release_joins_the_fragments(copy: Path) -> None:
    """A release joins the fragments into a new section above the older ones, and removes them."""
    (copy / "changelog.d" / "12.fixed.md").write_text("Something is right now.\n")
    draft = run(copy, "towncrier", "build", "--draft", "--version", "9.9.9", "--date", "2030-01-02")
    assert "## [9.9.9] - 2030-01-02\n" in draft
    assert "### Fixed\n\n- Something is right now. (#12)\n" in draft
    before = (copy / "CHANGELOG.md").read_text()
    run(copy, "towncrier", "build", "--yes", "--version", "9.9.9", "--date", "2030-01-02")
    after = (copy / "CHANGELOG.md").read_text()
    assert after.index("## [9.9.9]") < after.index("## [0.1.0]")
    assert "Something is right now." in after
    assert set(before.splitlines()) <= set(after.splitlines())
    for path in fragments():
        assert path.read_text().split()[0] in after
        assert not (copy / "changelog.d" / path.name).exists()


def test_the_types_are_those_that_are_documented() -> None:
    """The types of fragments are the documented ones; an unknown one would be left out silently."""
    told = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["towncrier"]
    assert tuple(kind["directory"] for kind in told["type"]) == TYPES
    for name in TYPES:
        assert f"`{name}`" in (FRAGMENTS / "README.md").read_text()


def test_the_hooks_are_those_of_make_lint() -> None:
    """The commit hooks and `make lint` run the same checks with the same tools."""
    run(PROJECT, "pre_commit", "validate-config", ".pre-commit-config.yaml")
    recipe = (PROJECT / "Makefile").read_text().partition("\nlint:")[2].partition("\nformat:")[0]
    checked = set(re.findall(r"^\t\$\(RUN\) -m (\w+)", recipe, re.MULTILINE))
    (repo,) = load(PROJECT / ".pre-commit-config.yaml")["repos"]
    assert {
        hook["entry"].removeprefix(".venv/bin/python -m ").split()[0] for hook in repo["hooks"]
    } == checked
    # Files are reformatted only by `make format`, never behind the back of the committer.
    assert "ruff format --check" in recipe
    assert any("ruff format --check" in hook["entry"] for hook in repo["hooks"])


@pytest.mark.parametrize("path", sorted(GITHUB.glob("workflows/*.yml")), ids=lambda path: path.name)
def test_a_workflow(path: Path) -> None:
    """A workflow has read permissions only, and pins each action by its commit."""
    told = load(path)
    assert told["permissions"] == {"contents": "read"}
    for action in re.findall(r"uses: (.*)", path.read_text()):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def steps(job: str) -> dict[str, dict[str, Any]]:
    """The named steps of a job in the release workflow."""
    return {step["name"]: step for step in load(RELEASE)["jobs"][job]["steps"] if "name" in step}


def test_a_release_is_published_by_trust() -> None:
    """Only the publishing job may request an identity token, and no secret is stored."""
    jobs = load(RELEASE)["jobs"]
    assert "permissions" not in jobs["build"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    assert "secrets." not in RELEASE.read_text()
    for page in (RELEASE, PROJECT / "CONTRIBUTING.md"):
        assert re.search("untested", page.read_text(), re.I), page


def test_a_release_names_the_repository(copy: Path) -> None:
    """The metadata has the URLs of the repository that makes the release."""
    env = {"REPOSITORY": "https://git.example/o/r", "GITHUB_REF_NAME": "v9", "PATH": "/usr/bin:/bin"}
    script = steps("build")["Name the repository in the metadata"]["run"]
    subprocess.run(["bash", "-ec", script], cwd=copy, env=env, check=True, timeout=60)
    urls = tomllib.loads((copy / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Source"] == "https://git.example/o/r"
    assert urls["Changelog"] == "https://git.example/o/r/blob/v9/CHANGELOG.md"


@pytest.mark.parametrize(("tag", "fits"), [(f"v{wsgi_store.__version__}", True), ("v0.0.1", False)])
def test_a_release_compares_its_tag(tag: str, *, fits: bool) -> None:
    """A release fails if its tag differs from the version."""
    script = steps("build")["Compare the tag with the version"]["run"]
    env = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-ec", script], cwd=PROJECT, env=env, check=False, timeout=60)
    assert (done.returncode == 0) is fits


@pytest.mark.parametrize("name", ["bug.md", "feature.md"])
def test_a_form(name: str) -> None:
    """An issue form has a name, a description, labels and a text."""
    _, front, body = (GITHUB / "ISSUE_TEMPLATE" / name).read_text().split("---\n", 2)
    assert {"name", "about", "labels"} <= set(yaml.safe_load(front))
    assert body.strip()
