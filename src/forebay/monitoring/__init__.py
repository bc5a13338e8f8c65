"""A dashboard for Grafana and alert rules for Prometheus, for what forebay measures.

`forebay dashboard export` and `forebay alerts export` print them.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from typing import Any, Final

__all__ = ["grafana_dashboard", "prometheus_alerts"]

_COLUMNS: Final = 24
"""The width of Grafana's grid."""
_WIDTH: Final = 8
_HEIGHT: Final = 8
_SCHEMA_VERSION: Final = 39
"""Grafana 11's; later ones migrate a dashboard when it is imported."""

_UID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
"""As Grafana has it."""


def grafana_dashboard(datasource: str | None = None) -> dict[str, Any]:
    """Give a dashboard as Grafana imports it, for a data source of the kind Prometheus.

    Args:
        datasource: the UID of the data source; where it is None, the dashboard has a variable
            to choose one by.

    Raises:
        ValueError: `datasource` cannot be a UID: it has 1 to 40 letters, digits, `-` and `_`.
    """
    if datasource is not None and not _UID.fullmatch(datasource):
        raise ValueError(
            f"datasource={datasource!r}: expected the UID of a data source, 1 to 40 letters, "
            f"digits, '-' and '_'; the end of its page's address in Grafana, not its name"
        )
    source = {"type": "prometheus", "uid": "${datasource}" if datasource is None else datasource}
    panels = tomllib.loads(_text("dashboard.toml"))["panel"]
    choice = [_variable("datasource", "datasource", "Data source", query="prometheus")]
    return {
        "uid": "forebay",
        "title": "forebay",
        "description": "Write-behind buffers, by the names of their tables.",
        "tags": ["forebay", "sqlite"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                *(choice if datasource is None else []),
                _chosen("job", "Job", "label_values(forebay_queue_size, job)", source),
                _chosen(
                    "buffer",
                    "Buffer",
                    'label_values(forebay_entries_accepted_total{job=~"$job"}, buffer)',
                    source,
                ),
            ]
        },
        "panels": [_panel(number, panel, source) for number, panel in enumerate(panels)],
    }


def prometheus_alerts() -> str:
    """Give alert rules as the text of a rule file of Prometheus, in YAML."""
    return _text("alerts.yaml")


def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _variable(kind: str, name: str, label: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "label": label, **more}


def _chosen(name: str, label: str, query: str, source: dict[str, str]) -> dict[str, Any]:
    """Give a variable of any number of values, all of them at first."""
    return _variable(
        "query",
        name,
        label,
        query=query,
        datasource=source,
        refresh=2,  # when the time range changes
        sort=1,
        multi=True,
        includeAll=True,
        allValue=".*",
        current={"text": ["All"], "value": ["$__all"]},
    )


def _panel(number: int, panel: dict[str, Any], source: dict[str, str]) -> dict[str, Any]:
    across = _COLUMNS // _WIDTH
    limits = {"min": 0, **({"max": panel["max"]} if "max" in panel else {})}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel["title"],
        "description": panel["description"],
        "datasource": source,
        "gridPos": {
            "x": number % across * _WIDTH,
            "y": number // across * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel["unit"], **limits}, "overrides": []},
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": source,
                "expr": query["expr"],
                "legendFormat": query["legend"],
                "range": True,
                "exemplar": True,
            }
            for index, query in enumerate(panel["queries"])
        ],
    }
