"""Executes a command line: its runs, one after another, and their table."""
