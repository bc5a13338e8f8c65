"""A real Prometheus on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.ports import free_port
from tests.waiting import answers, wait_for_server, wait_until


def why_no_prometheus() -> str | None:
    """Return the reason why Prometheus does not run here; None if it runs."""
    if shutil.which("prometheus") is None:
        return "not installed: Debian has a package prometheus"
    return None


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs at a URL."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of a response of the API."""
        url = f"{self.url}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=30) as answer:  # noqa: S310  # http, on loopback
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        """Run a query for the current time, and return its series.

        Raises:
            AssertionError: the query is invalid.
        """
        try:
            return list(self.get("query", query=expression)["result"])
        except HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error

    def wait_for_data(self, expressions: dict[str, str]) -> None:
        """Wait until the result of each query has a number."""
        missing = dict(expressions)

        def none_is_missing() -> bool:
            for name in [name for name, query in missing.items() if self._has_data(query)]:
                del missing[name]
            return not missing

        wait_until(none_is_missing, "queries have data", lambda: missing, interval=0.2)

    def _has_data(self, expression: str) -> bool:
        return any(series["value"][1] != "NaN" for series in self.query(expression))


@contextmanager
def prometheus(folder: Path, *, target: str, rules: str) -> Iterator[Prometheus]:
    """Run Prometheus on loopback; it scrapes one target every 0.2 s."""
    (folder / "rules.yaml").write_text(rules)
    config = {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [{"job_name": "a program", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    log = folder / "prometheus.out"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_server(process, log, lambda: answers(f"{url}/-/ready"))
            yield Prometheus(url)
        finally:
            process.kill()
