"""`python -m forebay` is the `forebay` command."""

from __future__ import annotations

from forebay.cli import main

if __name__ == "__main__":  # pragma: no branch  # nothing imports it
    main()
