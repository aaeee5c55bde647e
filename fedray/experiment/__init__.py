"""From a config or from Python objects to a run: building, checking, estimating, evaluating."""
