"""The arguments and options that several commands of `forebay dead-letters` share."""

from __future__ import annotations

import click

database_argument = click.argument("database", metavar="DB", type=click.Path())
ids_argument = click.argument("ids", metavar="[ID]...", nargs=-1, type=int)
buffer_option = click.option("--buffer", metavar="TABLE", help="Only letters of this table.")
error_option = click.option(
    "--error",
    metavar="CODE",
    help="Only letters whose last error has this code, such as SQLITE_CONSTRAINT_NOTNULL.",
)
