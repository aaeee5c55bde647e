"""Columns of rows that clients hold: in memory, mapped from a folder, made by a function, or made up for a trial."""
