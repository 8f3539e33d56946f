"""The journal's ``timing`` lines: what took long, and the stages of each scan and forecast. Seconds.

Slices are decoded as they come and a forecast is made in stretches; both are added up here until the scan
or the forecast is there. Invariant: what one thing took is never counted to another.
"""

from __future__ import annotations

from typing import Any

from monitor.state import Event, ForecastDue, KeepVolume, Line, OperatorAct, Output

_LONG_S = 0.1
# What ends in a line of its own when a forecast's stretches have led to it.
_ANSWERS = frozenset({"forecast", "what_if"})


class Timing:
    """``line`` is asked once for each event, with what its stages have taken since the one before."""

    def __init__(self) -> None:
        self._coming: dict[str, float] = {}
        self._ahead: dict[str, float] = {}

    def line(
        self,
        event: Event,
        outputs: list[Output],
        stages: dict[str, float],
        took_s: float,
        now_mono_s: float,
    ) -> dict[str, Any] | None:
        """The fields of the line, None where there is nothing to tell."""
        fields: dict[str, Any] = {"event": type(event).__name__, "took_s": took_s}
        if isinstance(event, OperatorAct):
            return {**fields, "stages": stages} if took_s > _LONG_S else None
        self._drop_overtaken(outputs)
        if isinstance(event, ForecastDue):
            finished = self._finished(outputs)
            self._ahead = _sum(self._ahead, stages)
            if finished:
                stages, self._ahead = self._ahead, {}
                return {**fields, **finished, "stages": stages}
        else:
            volumes = [o.volume for o in outputs if isinstance(o, KeepVolume)]
            self._coming = _sum(self._coming, stages)
            if volumes:
                stages, self._coming = self._coming, {}
                last_mono_s = max(i.received_mono_s for v in volumes for i in v.instances)
                return {
                    **fields,
                    "volume_ids": [v.volume_id for v in volumes],
                    "stages": stages,
                    "since_received_s": now_mono_s - last_mono_s,
                }
        return fields if took_s > _LONG_S else None

    def _drop_overtaken(self, outputs: list[Output]) -> None:
        """What was begun and is dropped has taken what it has, and of nothing that is told."""
        kinds = {o.kind for o in outputs if isinstance(o, Line)}
        if "forecast_skipped" in kinds:
            self._ahead = {}
        if "what_if_over" in kinds:
            self._ahead.pop("what_if", None)

    @staticmethod
    def _finished(outputs: list[Output]) -> dict[str, Any]:
        done = [o for o in outputs if isinstance(o, Line) and o.kind in _ANSWERS]
        if not done:
            return {}
        return {"of": done[0].kind, "from_volume_id": done[0].fields["from_volume_id"]}


def _sum(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {
        name: a.get(name, 0.0) + b.get(name, 0.0) for name in (*a, *(n for n in b if n not in a))
    }
