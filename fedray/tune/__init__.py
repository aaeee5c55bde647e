"""The fastest way to run a config on the machines at hand, by short real runs, kept for the next time."""
