"""Wall and processor time of some work in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Clock:
    """Wall and processor time of this process, in seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def run(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the work gives
        """Do some work and add its time."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu
        return result
