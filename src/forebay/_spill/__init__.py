"""Spill files: entries that were not settled when the program ended, in a file to replay."""
