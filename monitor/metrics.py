"""Figures for Prometheus, if asked for: http://127.0.0.1:PORT/metrics, on loopback only.

Counted are the journal's lines as they are written; how things stand is asked of the procedure when the
figures are fetched, on a thread of the server's. Seconds. No label is about the patient (docs/operations.md).
Invariant: whoever fetches changes nothing and is waited for by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor import logs

ADDRESS = "127.0.0.1"
_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
Say = Callable[[str, dict[str, Any]], None]


class MetricsError(OSError):
    """The port cannot be had; the message names it."""


@dataclass(frozen=True)
class Observed:
    """``scan_age_s``: since the latest scan was acquired, by the procedure clock; None without one.
    ``waiting``: received and not yet worked on. ``alarms``: (code, priority) of each that stands. ``alive``:
    by process or thread."""

    scan_age_s: float | None
    waiting: int
    alarms: tuple[tuple[str, str], ...]
    alive: Mapping[str, bool]


class Metrics:
    """Serves from now until ``close``. Raises ``MetricsError``."""

    def __init__(self, port: int) -> None:
        registry = CollectorRegistry()
        self._received = Counter(
            "iceball_instances_received", "Instances received.", registry=registry
        )
        self._rejected = Counter(
            "iceball_instances_rejected", "Instances rejected.", ["reason"], registry=registry
        )
        self._refused = Counter(
            "iceball_associations_refused", "Associations refused.", registry=registry
        )
        self._volumes = Counter(
            "iceball_volumes_completed", "Volumes assembled.", registry=registry
        )
        self._restarts = Counter(
            "iceball_process_restarts", "Processes started again.", ["process"], registry=registry
        )
        self._stages = Histogram(
            "iceball_stage_seconds",
            "Of a scan or forecast: how long a stage took.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._standing = _Standing()
        registry.register(self._standing)
        try:
            self._server, self._thread = start_http_server(port, ADDRESS, registry)
        except OSError as error:
            text = f"metrics: {ADDRESS}:{port}: {error.strerror or error}"
            raise MetricsError(text) from None

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self._server.server_port}/metrics"

    def counting(self, say: Say) -> Say:
        """``say``, with each line counted."""

        def counted(kind: str, fields: dict[str, Any]) -> None:
            try:
                self._count(kind, fields)
            except (
                Exception
            ) as error:  # a figure that is wrong is not to cost a line of the journal
                logs.failed("not_counted", error)
            say(kind, fields)

        return counted

    def observe(self, observed: Callable[[], Observed]) -> None:
        """From now on how it stands is asked for there. From any thread."""
        self._standing.observed = observed

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _count(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "instance_received":
            self._received.inc()
        elif kind == "instance_rejected":
            self._rejected.labels(str(fields["reason"])).inc()
        elif kind == "association_refused":
            self._refused.inc()
        elif kind == "volume_completed":
            self._volumes.inc()
        elif kind == "process_restarted":
            self._restarts.labels(str(fields["process"])).inc()
        elif kind == "timing":
            for stage, took_s in fields.get("stages", {}).items():
                self._stages.labels(stage).observe(took_s)


class _Standing(Collector):
    observed: Callable[[], Observed] | None = None

    def collect(self) -> Iterator[Metric]:
        if self.observed is None:
            return
        seen = self.observed()
        if seen.scan_age_s is not None:
            text = "Since the latest scan was acquired, by the procedure clock."
            yield GaugeMetricFamily("iceball_scan_age_seconds", text, value=seen.scan_age_s)
        text = "Messages received and not yet worked on."
        yield GaugeMetricFamily("iceball_queue_depth", text, value=seen.waiting)
        alarms = GaugeMetricFamily(
            "iceball_alarms_active", "Alarms that stand.", labels=["code", "priority"]
        )
        for key in sorted(set(seen.alarms)):
            alarms.add_metric(key, seen.alarms.count(key))
        yield alarms
        alive = GaugeMetricFamily("iceball_process_alive", "1 while it lives.", labels=["process"])
        for name, lives in seen.alive.items():
            alive.add_metric([name], float(lives))
        yield alive
