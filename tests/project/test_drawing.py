"""The drawing of the architecture matches the code."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.documents import PROJECT


def test_the_architecture_page_is_up_to_date(tmp_path: Path) -> None:
    """The drawing is up to date; if not, run `python -m docs.drawing`."""
    there = PROJECT / "docs" / "architecture"
    shutil.copy(there / "index.md", tmp_path)
    subprocess.run([sys.executable, "-m", "docs.drawing", tmp_path], cwd=PROJECT, check=True, timeout=60)
    for name in ("index.md", "rooms.svg"):
        made, kept = ((folder / name).read_text(encoding="utf-8") for folder in (tmp_path, there))
        assert made == kept, f"{name}: run python -m docs.drawing"
