"""Words of the whole program: errors, draws, layout, messages, records, metrics; no part of a run."""
