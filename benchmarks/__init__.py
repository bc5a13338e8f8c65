"""Benchmarks of forebay beside other ways to write to SQLite. README.md says how to run them."""
