"""What a program declares: tables, their columns and merge rules, and the operations on them.

Pure: no module here knows Trio, a database or OpenTelemetry.
"""
