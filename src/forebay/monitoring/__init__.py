"""A dashboard for Grafana and alert rules for Prometheus, for forebay's metrics.

`forebay dashboard export` and `forebay alerts export` print them.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from typing import Any, Final

__all__ = ["grafana_dashboard", "prometheus_alerts"]

_COLUMNS: Final = 24
"""The width of Grafana's grid, in its own units."""
_WIDTH: Final = 8
_HEIGHT: Final = 8
_SCHEMA_VERSION: Final = 39
"""The version of Grafana 11. Later versions migrate a dashboard when it is imported."""

_UID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
"""The syntax of a UID in Grafana."""


def grafana_dashboard(datasource: str | None = None) -> dict[str, Any]:
    """Return a dashboard in the format that Grafana imports, for a Prometheus data source.

    Args:
        datasource: the UID of the data source. If it is None, the dashboard has a variable by which
            the user chooses a data source.

    Raises:
        ValueError: `datasource` is not a UID, which has 1 to 40 letters, digits, `-` and `_`.
    """
    if datasource is not None and not _UID.fullmatch(datasource):
        raise ValueError(
            f"datasource={datasource!r}: expected the UID of a data source (1 to 40 letters, "
            f"digits, '-' and '_'), not its name; the address of its page in Grafana ends with it"
        )
    source = {"type": "prometheus", "uid": "${datasource}" if datasource is None else datasource}
    panels = tomllib.loads(_text("dashboard.toml"))["panel"]
    choice = [_variable("datasource", "datasource", "Data source", query="prometheus")]
    return {
        "uid": "forebay",
        "title": "forebay",
        "description": "Write-behind buffers. Each has the name of its table.",
        "tags": ["forebay", "sqlite"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                *(choice if datasource is None else []),
                _multiple_choice("job", "Job", "label_values(forebay_queue_size, job)", source),
                _multiple_choice(
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
    """Return alert rules as the text of a rule file for Prometheus, in YAML."""
    return _text("alerts.yaml")


def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _variable(kind: str, name: str, label: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "label": label, **more}


def _multiple_choice(name: str, label: str, query: str, source: dict[str, str]) -> dict[str, Any]:
    """Return a variable that may have several values; at first it has all of them."""
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
    """Return a panel as Grafana defines it, from a panel of dashboard.toml."""
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
