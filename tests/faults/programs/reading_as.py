"""Run reading commands as another user, and print an exit code and the output for each.

Arguments: the user's number, a database to warm up with, then the database. The warm-up imports
whatever the commands import, since the other user may not be able to read the interpreter's files.
"""

from __future__ import annotations

import json
import os
import sys

from click.testing import CliRunner

from forebay.cli._command import command

COMMANDS = (
    ["doctor", "--json"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "1"],
)


def run(path: str) -> list[tuple[int, str]]:
    results = []
    for name, *rest in COMMANDS:
        group = ["dead-letters", *rest[:1]] if name == "dead-letters" else [name]
        others = rest[1:] if name == "dead-letters" else rest
        result = CliRunner().invoke(command, [*group, path, *others])
        results.append((result.exit_code, result.output))
    return results


def main(user: int, warm_up: str, path: str) -> None:
    run(warm_up)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    for result in run(path):
        print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
