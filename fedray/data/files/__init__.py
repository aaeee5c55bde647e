"""Readers of folders and formats of files that are no single table."""
