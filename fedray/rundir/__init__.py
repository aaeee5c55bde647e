"""Everything that a run leaves on disk: names, lock, log, checkpoints, client state, temporary folders."""
