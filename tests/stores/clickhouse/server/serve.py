"""Run ClickHouse in this process: `serve.py LIBRARY FOLDER HTTP_PORT TCP_PORT [ARGUMENT…]`.

The library is clickhouse-local with an API. A query that runs for years keeps its ports open.
"""

from __future__ import annotations

import ctypes
import os
import sys

QUERY = (
    "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; "
    "SELECT count() FROM numbers(1000000000) WHERE sleepEachRow(1) = 1 SETTINGS max_block_size = 1,"
    " function_sleep_max_microseconds_per_block = 0, max_threads = 1"
)

library, folder, http_port, tcp_port, *more = sys.argv[1:]
arguments = [
    "clickhouse",
    f"--path={folder}",
    "--listen_host=127.0.0.1",
    f"--http_port={http_port}",
    f"--tcp_port={tcp_port}",
    "--output-format=TabSeparated",
    *more,
    f"--query={QUERY}",
]
array = (ctypes.c_char_p * len(arguments))(*(argument.encode() for argument in arguments))
# The library must find its own symbols before those of the interpreter.
loaded = ctypes.CDLL(library, mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
loaded.query_stable_v2.restype = ctypes.c_void_p
loaded.query_stable_v2(len(arguments), array)
