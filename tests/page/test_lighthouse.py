"""What Lighthouse says of the page."""

import json
import os
import statistics
import subprocess
from pathlib import Path

import pytest

from tests.support.browsers import PROGRAMS
from tests.support.node import node
from tests.support.servers import gunicorn

pytestmark = [pytest.mark.clients, pytest.mark.alone]
PROGRAM = "node_modules/lighthouse/cli/index.js"
LEAST = {"performance": 90, "accessibility": 95, "best-practices": 95, "seo": 95}
ROUNDS = 5
# Chromium did not answer, or did not say when a page began to load.
NOT_RUN = ("Unable to connect to Chrome", "Please run Lighthouse again")


def scores(url: str, directory: Path) -> dict[str, float]:
    """The scores of one load on a phone as Lighthouse imagines it, which is its strictest form."""
    options = ("--quiet", "--output=json", f"--only-categories={','.join(LEAST)}")
    flags = "--chrome-flags=--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage"
    command = node(PROGRAM, url, *options, flags, "--no-enable-error-reporting")
    environment = {**os.environ, "CHROME_PATH": f"/usr/bin/{PROGRAMS['chromium']}", "TMPDIR": str(directory)}
    for _ in range(3):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        if not any(told in done.stderr for told in NOT_RUN):
            break
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["lighthouseVersion"] == "12.2.3"
    return {name: 100 * one["score"] for name, one in report["categories"].items()}


@pytest.mark.only("chromium", "Lighthouse runs in Chromium alone")
def test_lighthouse(browser: object, tmp_path: Path) -> None:
    """Medians of five loads: accessibility, best practices and SEO from 95, performance from 90."""
    assert browser
    (tmp_path / "store").mkdir()
    # As in production: Python's checks are no part of the page.
    with gunicorn(tmp_path, python=()) as server:
        runs = [scores(f"http://127.0.0.1:{server.port}/", tmp_path) for _ in range(ROUNDS)]
    medians = {name: statistics.median(run[name] for run in runs) for name in LEAST}
    print(medians, runs)
    assert all(medians[name] >= least for name, least in LEAST.items()), medians
