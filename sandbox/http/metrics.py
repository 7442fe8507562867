"""What a server counts, in Prometheus' text form.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one server, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._n_programs = 0
        self._buckets = [0] * (len(_BUCKETS_S) + 1)
        self._total_s = 0.0

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count one answer; `path` is one of a fixed set."""
        with self._lock:
            self._requests[path, status] += 1
            if status == 200:
                place = next((i for i, s in enumerate(_BUCKETS_S) if seconds <= s), -1)
                self._buckets[place] += 1
                self._total_s += seconds

    def programs(self, n: int, verdicts: Iterable[str] = ()) -> None:
        """Count programs whose answer is ready, and their verdicts."""
        with self._lock:
            self._n_programs += n
            self._verdicts.update(verdicts)

    def text(self, others: Mapping[str, float]) -> str:
        """Return everything, with what the caller counts elsewhere; its keys are names without the prefix."""
        with self._lock:
            lines = [
                *_family("requests_total", "counter", "Answers by path and status.", [
                    (f'{{path="{path}",status="{status}"}}', n)
                    for (path, status), n in sorted(self._requests.items())
                ]),
                *_family("programs_total", "counter", "Programs that were run.", [
                    ("", self._n_programs)
                ]),
                *_family("verdicts_total", "counter", "Verdicts on asserts.", [
                    (f'{{verdict="{verdict}"}}', n) for verdict, n in sorted(self._verdicts.items())
                ]),
                *self._histogram(),
            ]  # fmt: skip
        for name, value in others.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += _family(name, kind, _HELP[name], [("", value)])
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        n, samples = 0, []
        for limit, count in zip((*_BUCKETS_S, "+Inf"), self._buckets, strict=True):
            n += count
            samples.append((f'_bucket{{le="{limit}"}}', n))
        return _family(
            "request_seconds",
            "histogram",
            "Time from a request to its answer of status 200, waiting included.",
            [*samples, ("_sum", self._total_s), ("_count", n)],
        )


_HELP = {
    "requests_waiting": "Requests that wait for their turn.",
    "requests_at_work": "Requests whose programs run.",
    "request_bytes": "Bytes of the bodies of all requests in the house.",
    "slots": "Programs that run at a time.",
    "supervisors_lost_total": "Programs that lost their supervisor and ran again.",
    "programs_starved_total": "Programs that got no processor and ran again.",
    "supervisors_restarted_total": "Supervisors that were replaced.",
    "canaries_failed_total": "Canary pairs with a wrong verdict.",
}


def _family(name: str, kind: str, text: str, samples: list[tuple[str, float]]) -> list[str]:
    full = f"sdpo_bench_sandbox_{name}"
    return [
        f"# HELP {full} {text}",
        f"# TYPE {full} {kind}",
        *(f"{full}{rest} {value:.10g}" for rest, value in samples),
    ]
