"""Fixtures for the tests of the distributions."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.documents import PROJECT


def unpublished(directory: str, names: list[str]) -> set[str]:
    """The files that a clone lacks: environments, caches, build products and blobs."""
    kept = {".flake8", ".github", ".gitkeep", ".pre-commit-config.yaml"}
    if Path(directory) == PROJECT / "store":
        return set(names) - kept
    return {name for name in names if re.match(r"\.|__pycache__|(build|dist)$", name)} - kept


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source distribution, which proves that the latter is complete."""
    copy = tmp_path_factory.mktemp("project") / "copy"
    shutil.copytree(PROJECT, copy, ignore=unpublished)
    source = build("sdist", copy)
    with tarfile.open(source) as archive:
        # Python 3.11.4 introduced extraction filters, and 3.12 warns if none is set.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(copy.parent)
    return build("wheel", copy.parent / source.name.removesuffix(".tar.gz"))


def build(kind: str, directory: Path) -> Path:
    """Build a distribution of the project in a directory, offline with the installed tools."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=directory, check=True, capture_output=True, timeout=120)
    (built,) = (directory / "dist").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built
