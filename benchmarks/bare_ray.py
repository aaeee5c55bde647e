"""The yardstick of starting: a bare Ray program with nothing of fedray in it.

From the start of its process until the first of two actors, each with torch imported, has answered: what every program
on Ray and torch waits for before it can do anything.

    python -m benchmarks.bare_ray $(date +%s.%N)
"""

from __future__ import annotations

import json
import sys
import time


class Actor:
    """Answers once torch is there."""

    def __init__(self) -> None:
        import torch

        self._one = torch.ones(1)

    def answer(self) -> float:
        """One."""
        return float(self._one)


def main(began: float) -> None:
    """Start, and print ``seconds`` since ``began`` (Unix time) and those of ``ray.init`` alone, as JSON."""
    import ray

    before = time.time()
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    started = time.time()
    actors = [ray.remote(Actor).remote() for _ in range(2)]
    ray.wait([actor.answer.remote() for actor in actors])
    print(json.dumps({"seconds": round(time.time() - began, 2), "init": round(started - before, 2)}))
    ray.shutdown()


if __name__ == "__main__":
    main(float(sys.argv[1]))
