"""The shipped alerts and dashboard are valid, and the alerts fire when they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.figures import Counting, Figures, counting_server, scrape
from tests.support.servers import DEPLOY, Server
from tests.support.wire import Connection, message
from wsgi_store.testing.helpers import COLLIDING

pytestmark = pytest.mark.long(46)
FAILURES = "wsgi_store_failures_total"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of Debian's package prometheus")


@needs_promtool
def test_promtool_finds_nothing_to_complain_about(counting: Counting) -> None:
    """Names, units and help of the metrics follow the conventions of Prometheus."""
    counting.api.post("/", b"x")
    text = counting.api.get("/metrics").text
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_promtool
@pytest.mark.parametrize("command", [["check", "rules", str(DEPLOY / "prometheus-rules.yml")]])
def test_the_rules_are_valid(command: list[str]) -> None:
    """promtool accepts the shipped alerts."""
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def try_rules(directory: Path, tests: str) -> None:
    """Run promtool's tests of the alerts; fail if one of them fails."""
    assert PROMTOOL
    (directory / "alerts.yml").write_text(tests, encoding="utf-8")
    shutil.copy(DEPLOY / "prometheus-rules.yml", directory)
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(directory / "alerts.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_fire(tmp_path: Path) -> None:
    """Each alert fires when it should, and not before."""
    try_rules(tmp_path, Path(__file__).with_name("alerts.yml").read_text(encoding="utf-8"))


def expressions() -> str:
    """All expressions of the dashboard and the alerts."""
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = re.findall("expr: (.*)", (DEPLOY / "prometheus-rules.yml").read_text(encoding="utf-8"))
    assert len(panels) > 10 and len(rules) > 5
    return "\n".join([*panels, *rules])


def failures(server: Server) -> dict[str, float]:
    """The number of failures in the metrics of a server, per code."""
    found = scrape(server).items()
    return {dict(labels)["code"]: value for (name, labels), value in found if name == FAILURES}


@needs_promtool
def test_the_first_failure_raises_its_alert(tmp_path: Path) -> None:
    """Watched metrics start at 0: a series that appears with the value 1 shows Prometheus no increase."""
    watched = set("|".join(re.findall('code=~?"([a-z_|]+)"', expressions())).split("|"))
    with counting_server(tmp_path, WSGI_STORE_HASH="md5") as server:
        before = failures(server)
        for data, status in zip(COLLIDING, (200, 409), strict=True):
            with Connection(server.port) as connection:
                assert connection.ask(message("POST", "/", data)).status == status
        after = failures(server)
    values = f"{before.get('digest_collision', '_')}x5 {after['digest_collision']}x5"
    collisions = {"series": FAILURES + '{code="digest_collision"}', "values": values}
    summary = " received a different file with the same hash: somebody forges md5 or sha1"
    alert = {
        "exp_labels": {"severity": "warning", "code": "digest_collision"},
        "exp_annotations": {"summary": summary},
    }
    test = {
        "interval": "1m",
        "input_series": [collisions],
        "alert_rule_test": [{"eval_time": "8m", "alertname": "WSGIStoreCollision", "exp_alerts": [alert]}],
    }
    try_rules(tmp_path, json.dumps({"rule_files": ["prometheus-rules.yml"], "tests": [test]}))
    assert len(watched) > 3
    assert watched <= before.keys()


def test_what_is_watched_exists(counting: Counting) -> None:
    """The dashboard and the alerts use only existing metrics."""
    counting.api.post("/", b"x")
    counting.api.get("/nowhere", status=404)
    there = {name for name, _ in Figures(counting.api.get("/metrics").text)}
    assert set(re.findall(r"\bwsgi_store_[a-z_]+", expressions())) <= there
