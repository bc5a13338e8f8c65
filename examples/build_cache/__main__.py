"""A build-cache server: `python examples/build_cache DIR --port 8080 --token TOKEN`."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import logging
import resource
import signal
import sys
from pathlib import Path

import trio
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider

from forebay import StoreError
from forebay.cache import CacheOptions, open_cache
from http_server import HttpServer, Limits
from routes import Routes, Tokens


async def serve(
    arguments: argparse.Namespace, tokens: Tokens, limits: Limits, options: CacheOptions
) -> None:
    """Serve until SIGTERM or SIGINT, and then finish the requests in progress."""
    metrics = MeterProvider([PrometheusMetricReader()])
    # Around the cache, so that a second signal does not end the program before the cache is closed.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        folder = arguments.directory
        async with open_cache(folder, options=options, meter_provider=metrics) as cache:
            server = HttpServer(Routes(cache, tokens), limits)
            await server.serve(arguments.listen, arguments.port, signals, arguments.drain_timeout)


def main() -> None:
    """Parse the command line, and run the server."""
    parser = argparse.ArgumentParser(description="Serve a build cache over HTTP.")
    add = parser.add_argument
    default = "(default: %(default)s)"
    for_all = "a token for all projects, or ACCOUNT/PROJECT=TOKEN for one; may be repeated"
    add("directory", help="the folder of the cache")
    add("--port", type=int, default=8080, metavar="N", help=default)
    add("--listen", default="127.0.0.1", metavar="HOST", help=default)
    add("--token", action="append", default=[], help=for_all)
    add("--token-file", type=Path, metavar="FILE", help="a file with one TOKEN per line")
    add("--budget", type=int, metavar="BYTES", help="of all artifacts; else by the disk")
    add("--drain-timeout", type=float, default=10.0, metavar="SECONDS", help=default)
    for limit in dataclasses.fields(Limits):
        option = "--" + limit.name.replace("_", "-")
        unit = "SECONDS" if limit.name.endswith("timeout") else "N"
        add(option, type=type(limit.default), default=limit.default, metavar=unit, help=default)
    arguments = parser.parse_args()
    try:
        if arguments.token_file is not None:
            arguments.token += arguments.token_file.read_text().split("\n")
        tokens = Tokens(filter(None, arguments.token))
        limits = Limits(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Limits)})
        options = CacheOptions(budget_bytes=arguments.budget)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Each connection and the artifact that it sends or receives need a file descriptor.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    # Nearly all objects of a request end with it, so Python need not look for cycles so often: an
    # upload takes a tenth less time.
    gc.set_threshold(50_000)
    try:
        trio.run(serve, arguments, tokens, limits, options)
    except (OSError, StoreError) as error:  # the port or the folder is in use, for example
        sys.exit(f"cannot serve {arguments.directory} at port {arguments.port}: {error}")
    except KeyboardInterrupt:  # a second Ctrl-C, after all was closed
        sys.exit(130)


if __name__ == "__main__":
    main()
