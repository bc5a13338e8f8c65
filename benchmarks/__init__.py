"""Compare forebay with other ways to write to SQLite. README.md in this folder says how."""
