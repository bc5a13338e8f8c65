"""`forebay dashboard` and `forebay alerts`: configuration files for Grafana and Prometheus."""

from __future__ import annotations

import json

import click

from forebay import monitoring
from forebay.cli._output import echo


@click.group(name="dashboard", short_help="Export a Grafana dashboard.")
def dashboard() -> None:
    """Export a Grafana dashboard of forebay's metrics."""


@dashboard.command(name="export", short_help="Print the dashboard as JSON.")
@click.option(
    "--datasource",
    metavar="UID",
    help="The UID of the Prometheus data source. By default, the dashboard has a menu of data "
    "sources.",
)
def export_dashboard(datasource: str | None) -> None:
    """Print a Grafana dashboard as JSON. In Grafana, import the file.

    \b
    Example:
      forebay dashboard export > forebay.json
    """  # noqa: D301  # \b is click's mark for lines that it must not join
    try:
        exported = monitoring.grafana_dashboard(datasource)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    echo(json.dumps(exported, indent=2))


@click.group(name="alerts", short_help="Export alert rules for Prometheus.")
def alerts() -> None:
    """Export alert rules for Prometheus on forebay's metrics."""


@alerts.command(name="export", short_help="Print the alert rules as YAML.")
def export_alerts() -> None:
    """Print alert rules as YAML. Name the file in Prometheus's rule_files.

    \b
    Example:
      forebay alerts export > /etc/prometheus/forebay.yaml
    """  # noqa: D301  # \b is click's mark for lines that it must not join
    echo(monitoring.prometheus_alerts(), nl=False)
