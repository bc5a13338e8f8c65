"""What a program declares: tables, their columns and merge rules, and the operations on them.

The modules here are pure: they import neither Trio nor a database nor OpenTelemetry.
"""
