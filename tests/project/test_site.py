"""The documents build to a site without broken links."""

import subprocess
import sys
from pathlib import Path

import pytest

import wsgi_store

PROJECT = Path(__file__).parents[2]


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    options = ["-W", "--keep-going", "--quiet", "-d", str(site.with_name("doctrees"))]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(source), str(site)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.races
def test_the_site(tmp_path: Path) -> None:
    """Every page builds without a warning; the reference has every public name."""
    result = build(PROJECT / "docs", tmp_path / "site")
    assert (result.returncode, result.stderr) == (0, "")
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    for name in set(wsgi_store.__all__) - {"errors"}:
        assert f'id="wsgi_store.{name}"' in reference, name
    for name in ("BlobNotFound", "StorageFull"):
        assert f'id="wsgi_store.errors.{name}"' in reference, name


def test_what_leads_nowhere_is_found(tmp_path: Path) -> None:
    """A missing page, heading or class fails the build."""
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_bytes((PROJECT / "docs" / "conf.py").read_bytes())
    page = "# Page\n\n[a](no.md) [b](#no)\n\n```{eval-rst}\n:py:class:`wsgi_store.No`\n```\n"
    (source / "index.md").write_text(page, encoding="utf-8")
    result = build(source, tmp_path / "site")
    assert result.returncode
    for missing in ("'no.md'", "'no'", "wsgi_store.No"):
        assert f"not found: {missing} " in result.stderr
