"""Turn pending entries into batches: when to flush, and what one flush commits.

The modules here are pure: they import neither Trio nor a database nor OpenTelemetry.
"""
