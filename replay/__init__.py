"""Replay a production cache trace through `forebay.cache` and check the result."""
