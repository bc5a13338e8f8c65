"""The dashboard and the alert rules: their form, and their queries in a real Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from forebay.cli._command import command
from forebay.monitoring import grafana_dashboard, prometheus_alerts
from tests.telemetry.documented import documented_instruments
from tests.telemetry.prometheus import Prometheus, prometheus
from tests.waiting import wait_until

PROGRAM = Path(__file__).parent / "programs" / "scraped.py"
CACHE = ("cas_artifacts", "key_value_entries", "s3_transfers")
VARIABLES = {"$__rate_interval": "5s", "$job": ".*", "$buffer": ".*"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def queries() -> dict[str, str]:
    """Return the dashboard's queries as Grafana sends them, by panel and legend."""
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
def test_an_output_that_cannot_be_written_has_exit_code_1(what: str) -> None:
    """The error is one line."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "forebay", what, "export"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    expected = b"Error: the output could not be written: [Errno 28] No space left on device\n"
    assert (1, expected) == (done.returncode, done.stderr)


def documented_metrics() -> set[str]:
    """Return the names in Prometheus of the instruments that the documentation lists."""
    suffixes = {"s": "_seconds", "By": "_bytes"}
    return {
        name.replace(".", "_") + suffixes.get(unit, "") + ("_total" if kind == "counter" else "")
        for page in ("instruments.md", "cache.md")
        for name, (kind, unit) in documented_instruments(page).items()
    }


def test_the_dashboard_shows_every_documented_instrument() -> None:
    """Each metric is in the query of a panel. Each panel has a title and a description."""
    text = "\n".join(queries().values())
    assert set() == {name for name in documented_metrics() if name not in text}
    assert all(panel["title"] and panel["description"] for panel in grafana_dashboard()["panels"])


def test_every_query_groups_by_buffer() -> None:
    """In the metrics of databases the buffer is the collection. The log belongs to a file.

    The metrics of a cache belong to several buffers.
    """
    ungrouped = [
        query
        for query in queries().values()
        if "forebay_cache_" not in query
        and not re.search(r" by \((buffer|db_collection_name)\b", query)
    ]
    assert [True] == ["forebay_wal_size_bytes" in query for query in ungrouped]


@pytest.mark.parametrize("datasource", [None, "abc"])
def test_grafana_knows_every_field(datasource: str | None) -> None:
    """The types of Grafana's own schema read the dashboard and write it again without a loss."""
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
    """Each has its own place in a grid that is 24 wide, and its own number."""
    panels = grafana_dashboard()["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(panels) == len(set(places)) == len({panel["id"] for panel in panels})
    assert all(x % 8 == 0 and x + 8 <= 24 and y % 8 == 0 for x, y in places)


def test_the_command_prints_the_dashboard() -> None:
    """It is JSON. Without `--datasource` it has a variable by which a data source is chosen."""
    assert grafana_dashboard() == json.loads(run("dashboard", "export").stdout)
    printed = json.loads(run("dashboard", "export", "--datasource", "abc").stdout)
    assert grafana_dashboard("abc") == printed
    assert '"${datasource}"' in json.dumps(grafana_dashboard())
    assert "${datasource}" not in json.dumps(printed)
    assert {"type": "prometheus", "uid": "abc"} == printed["panels"][0]["targets"][0]["datasource"]


@pytest.mark.parametrize("datasource", ["", "My Prometheus", "${x}", "a\nb", "é", "x" * 41])
def test_an_invalid_uid_of_a_datasource_is_an_error(datasource: str) -> None:
    """With the name of a data source, for example, the dashboard would have no data."""
    result = run("dashboard", "export", "--datasource", datasource)
    assert (2, True) == (
        result.exit_code,
        f"--datasource={datasource!r}: expected the UID" in result.stderr,
    )


def test_the_uids_of_grafana_are_valid() -> None:
    """Grafana makes some, and users write others."""
    for datasource in ("PBFA97CFB590B2093", "prometheus-eu_1", "x" * 40):
        assert datasource == grafana_dashboard(datasource)["panels"][0]["datasource"]["uid"]


def test_the_command_prints_the_alert_rules() -> None:
    """They are the text of `prometheus_alerts`."""
    assert prometheus_alerts() == run("alerts", "export").stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a program under load."""
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
    """The query of each panel and the expression of each alert return data of the program."""
    server.wait_for_data(queries())
    rules = wait_for_rules(server)
    assert prometheus_alerts().count("- alert: ") == len(rules)
    assert {"ok": ""} == {rule["health"]: rule.get("lastError", "") for rule in rules}
    # Without its limit an expression returns the value that it compares.
    limit = re.compile(r" > [\d.e+]+")
    server.wait_for_data({rule["name"]: limit.sub("", rule["query"]) for rule in rules})
    happened = {"ForebayFlushFailed", "ForebayDeadLetters", "ForebayFlushesRetried"}
    happened |= {"ForebaySpoolNotDelivered", "ForebaySpoolNearlyFull", "ForebayDeliveryBlocked"}
    server.wait_for_data(
        {rule["name"]: rule["query"] for rule in rules if rule["name"] in happened}
    )
    expected = {
        "rows_flushed": {"key_values", *CACHE},
        "queue_size": {"key_values", "delivered", *CACHE},
        "entries_dead_lettered": {"key_values", "doomed", "delivered", *CACHE},
    }

    def found() -> dict[str, set[Any]]:
        return buffers_of(server, expected)

    # A late scrape leaves a gap.
    wait_until(lambda: expected == found(), f"buffers are {expected}", found, interval=0.1)


def buffers_of(server: Prometheus, metrics: Iterable[str]) -> dict[str, set[Any]]:
    """Return the buffers that the panel of each metric shows now."""
    return {
        metric: {series["metric"].get("buffer") for series in server.query(query)}
        for metric in metrics
        for query in queries().values()
        if f"forebay_{metric}" in query
    }


def wait_for_rules(server: Prometheus) -> list[Any]:
    """Wait until every rule was evaluated, and return the rules."""

    def rules() -> list[Any]:
        return [rule for group in server.get("rules")["groups"] for rule in group["rules"]]

    def evaluated() -> list[Any]:
        found = rules()
        return found if all(rule["health"] != "unknown" for rule in found) else []

    return wait_until(evaluated, "every rule is evaluated", rules, interval=0.1)
