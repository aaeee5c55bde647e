"""What the files of a run folder are called, and how one is known."""

from __future__ import annotations

from pathlib import Path

from fedray.errors import ConfigError

CONFIG, SUMMARY, METRICS, MODEL, LOG = "config.yaml", "summary.json", "metrics.jsonl", "model.safetensors", "log.txt"


def config_of(run_dir: Path) -> str:
    """The run's config.

    Raises:
        ConfigError: there is no run here.
    """
    try:
        return (run_dir / CONFIG).read_text()
    except OSError:
        raise ConfigError(f"{run_dir} is no run folder: it has no {CONFIG}") from None
