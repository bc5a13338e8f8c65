"""`forebay dashboard` and `forebay alerts`: what watches a program, to give to what watches."""

from __future__ import annotations

import json

import click

from forebay import monitoring
from forebay.cli._output import echo


@click.group(name="dashboard", short_help="The dashboard for Grafana.")
def dashboard() -> None:
    """The dashboard for Grafana, of what forebay measures."""


@dashboard.command(name="export", short_help="Print it as JSON, to import.")
@click.option(
    "--datasource",
    metavar="UID",
    help="The UID of the Prometheus data source; without it the dashboard lets one choose.",
)
def export_dashboard(datasource: str | None) -> None:
    """Print the dashboard as JSON, as Grafana imports it.

    \b
    Example:
      forebay dashboard export > forebay.json
    """  # noqa: D301 - the \\b is real: click leaves the lines after it as they are
    try:
        exported = monitoring.grafana_dashboard(datasource)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    echo(json.dumps(exported, indent=2))


@click.group(name="alerts", short_help="The alert rules for Prometheus.")
def alerts() -> None:
    """The alert rules for Prometheus, on what forebay measures."""


@alerts.command(name="export", short_help="Print them as YAML, for rule_files.")
def export_alerts() -> None:
    """Print the alert rules as YAML, a file for Prometheus's rule_files.

    \b
    Example:
      forebay alerts export > /etc/prometheus/forebay.yaml
    """  # noqa: D301 - the \\b is real: click leaves the lines after it as they are
    echo(monitoring.prometheus_alerts(), nl=False)
