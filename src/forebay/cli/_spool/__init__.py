"""The group `forebay spool`: what waits for ClickHouse in the spool of a program."""
