"""The dashboard and the alert rules: well formed, and right against a real Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from forebay.cli._command import command
from forebay.monitoring import grafana_dashboard, prometheus_alerts
from tests.telemetry.prometheus import Prometheus, prometheus

PROGRAM = Path(__file__).parent / "programs" / "scraped.py"
VARIABLES = {"$__rate_interval": "5s", "$job": ".*", "$buffer": ".*"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def queries() -> dict[str, str]:
    """Give the dashboard's queries as Grafana sends them, by panel and legend."""
    found = {}
    for panel in grafana_dashboard()["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            assert "$" not in expression
            found[f"{panel['title']}: {target['legendFormat']}"] = expression
    return found


@pytest.mark.parametrize("what", ["dashboard", "alerts"])
def test_an_output_that_cannot_be_written_is_told(what: str) -> None:
    """In one line, with exit code 1."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "forebay", what, "export"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    expected = b"Error: the output could not be written: [Errno 28] No space left on device\n"
    assert (1, expected) == (done.returncode, done.stderr)


def test_the_dashboard_has_a_panel_for_each() -> None:
    """What is asked of a buffer first: rates, durations, queues, and what went wrong."""
    titles = [panel["title"] for panel in grafana_dashboard()["panels"]]
    assert [
        "Rows flushed",
        "Entries accepted",
        "Superseded share",
        "Flush duration",
        "Batch size",
        "Flushes by reason",
        "Pending",
        "Utilization",
        "Oldest entry",
        "Retries",
        "Dead letters",
        "Failed flushes",
        "Transactions",
        "Write-ahead log",
    ] == titles
    assert {"p50", "p95", "p99"} == {
        name.split()[-1] for name in queries() if name.startswith("Flush duration")
    }


def test_each_panel_tells_buffers_apart() -> None:
    """Every query but the file's groups by buffer, under whichever name it has there."""
    ungrouped = [
        name
        for name, query in queries().items()
        if not re.search(r" by \((buffer|db_collection_name)\b", query)
    ]
    assert ["Write-ahead log: {{db_namespace}}"] == ungrouped


@pytest.mark.parametrize("datasource", [None, "abc"])
def test_grafana_knows_every_field(datasource: str | None) -> None:
    """Read into the types of Grafana's own schema and written again, nothing of it is missing."""
    register_default_plugins()
    dashboard = grafana_dashboard(datasource)
    written = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    assert [] == list(differences(dashboard, written))


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            yield from differences(value, theirs.get(name), f"{path}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path}: {ours!r}, {theirs!r}"


def test_panels_do_not_overlap() -> None:
    """Each has its own place in a grid 24 wide, and its own number."""
    panels = grafana_dashboard()["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(panels) == len(set(places)) == len({panel["id"] for panel in panels})
    assert all(x % 8 == 0 and x + 8 <= 24 and y % 8 == 0 for x, y in places)


def test_the_command_prints_the_dashboard() -> None:
    """As JSON; with `--datasource` for that one, without it for one to be chosen."""
    assert grafana_dashboard() == json.loads(run("dashboard", "export").stdout)
    printed = json.loads(run("dashboard", "export", "--datasource", "abc").stdout)
    assert grafana_dashboard("abc") == printed
    assert '"${datasource}"' in json.dumps(grafana_dashboard())
    assert "${datasource}" not in json.dumps(printed)
    assert {"type": "prometheus", "uid": "abc"} == printed["panels"][0]["targets"][0]["datasource"]


@pytest.mark.parametrize("datasource", ["", "My Prometheus", "${x}", "a\nb", "é", "x" * 41])
def test_what_cannot_be_the_uid_of_a_datasource_is_refused(datasource: str) -> None:
    """It would be a dashboard without data: the name of the data source, say."""
    result = run("dashboard", "export", "--datasource", datasource)
    assert (2, True) == (
        result.exit_code,
        f"--datasource={datasource!r}: expected the UID" in result.stderr,
    )


def test_the_uids_of_grafana_are_taken() -> None:
    """As Grafana makes them, and as a person writes them."""
    for datasource in ("PBFA97CFB590B2093", "prometheus-eu_1", "x" * 40):
        assert datasource == grafana_dashboard(datasource)["panels"][0]["datasource"]["uid"]


def test_the_command_prints_the_alert_rules() -> None:
    """As they are in the package."""
    assert prometheus_alerts() == run("alerts", "export").stdout
    assert 7 == prometheus_alerts().count("- alert: ")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus, while a program under load is scraped by it."""
    with subprocess.Popen(
        [sys.executable, PROGRAM, tmp_path / "a.db"], stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            port = int(program.stdout.readline())
            alerts = run("alerts", "export").stdout
            with prometheus(tmp_path, target=f"127.0.0.1:{port}", rules=alerts) as running:
                yield running
        finally:
            program.kill()


@pytest.mark.prometheus
def test_every_query_and_every_alert_finds_its_data(server: Prometheus) -> None:
    """Each panel's query and each alert's expression parses, and finds what the load shows."""
    server.wait_for_data(queries())
    rules = wait_for_rules(server)
    assert 7 == len(rules)
    assert {"ok": ""} == {rule["health"]: rule.get("lastError", "") for rule in rules}
    # Without their limits they show what they watch.
    limit = re.compile(r" > [\d.e+]+")
    server.wait_for_data({rule["name"]: limit.sub("", rule["query"]) for rule in rules})
    happened = {"ForebayFlushFailed", "ForebayDeadLetters", "ForebayFlushesRetried"}
    server.wait_for_data(
        {rule["name"]: rule["query"] for rule in rules if rule["name"] in happened}
    )
    buffers = {
        name: {series["metric"].get("buffer") for series in server.query(query)}
        for name, query in queries().items()
        if name.startswith(("Rows", "Pending", "Dead"))
    }
    assert [{"key_values"}, {"key_values"}, {"key_values", "doomed"}] == list(buffers.values())


def wait_for_rules(server: Prometheus) -> list[Any]:
    deadline = time.monotonic() + 60
    while True:
        groups = server.get("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if rules and all(rule["health"] != "unknown" for rule in rules):
            return rules
        assert time.monotonic() < deadline
        time.sleep(0.1)
