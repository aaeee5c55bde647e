"""A run: its plan, its workers, its rounds, and how it is stopped."""
