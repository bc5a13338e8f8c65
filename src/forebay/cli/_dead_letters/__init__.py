"""The command `forebay dead-letters`: list, show, replay and purge dead letters."""
