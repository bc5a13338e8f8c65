"""The `forebay` command. It needs the extra `forebay[cli]`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command with the arguments of the process, and exit with its code."""
    try:
        from forebay.cli._command import command  # noqa: PLC0415  # the extra may be missing

        command()  # imports its subcommand
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"click", "msgspec", "rich"}:
            raise
        print(  # noqa: T201  # click may be what is missing
            "The forebay command needs the packages click, msgspec and rich. To install them, run: "
            "pip install 'forebay[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
