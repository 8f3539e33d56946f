"""What a report says, as strings and rows: from an account and what was worked out again. Pure.

Times are UTC, where nothing else is said. Invariant: a value that is not a finite number is written as
unknown; coverage and margins are rounded as on the screen, never towards the better.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from monitor.record.account import (
    Account,
    Fields,
    ScanAccount,
    interval,
    number,
    rows,
)
from monitor.record.reading import Finding
from monitor.report.compared import Compared, compared
from monitor.report.sentences import (
    act_text,
    alarm_text,
    clock_text,
    event_text,
    offset_text,
    rejection_text,
)
from monitor.view import formats
from monitor.view.formats import NBSP
from monitor.view.translations import TABLES, body_name, reason_text, text
from monitor.worked_out import WorkedOut, WorkedScan

_MOST_FINDINGS = 20


@dataclass(frozen=True)
class Table:
    """``heads`` and rows of strings; ``marks`` by row: "" or why it is to be looked at ("warn")."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    marks: tuple[str, ...] = ()
    empty: str = ""


@dataclass(frozen=True)
class Made:
    """Who made the report: the program's version, and the hash of the journal it was made from. ``needles``
    (number, type): of the latest case. ``zone``: that of the machine, whose offset when the record began is
    taken for all of it."""

    version: str
    journal_sha256: str
    patient_label: str | None
    patient_id: str | None
    needles: tuple[tuple[str, str], ...] = ()
    zone: tzinfo = UTC


@dataclass(frozen=True)
class Content:
    """``words`` are the few sentences that a template needs; ``whole``: nothing is missing. ``pictures``
    (volume id, caption) in order."""

    language: str
    words: Mapping[str, str]
    facts: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    whole: bool
    tables: Mapping[str, Table]
    pictures: tuple[tuple[str, str], ...]


def content(
    a: Account, worked: WorkedOut, findings: Sequence[Finding], made: Made, language: str
) -> Content:
    """``findings``: of reading the journal; those of the replay are in ``worked``."""
    return _Writer(a, worked, made, language).content(findings)


class _Writer:
    def __init__(self, a: Account, worked: WorkedOut, made: Made, language: str) -> None:
        self.a, self.worked, self.made, self.language = a, worked, made, language
        self.goal_mm = number(a.started, "margin_goal_mm")
        for scan in a.scans:
            goal_mm = number(scan.assessment, "margin_goal_mm")
            self.goal_mm = self.goal_mm if goal_mm is None else goal_mm

    def content(self, findings: Sequence[Finding]) -> Content:
        words = ("title", "notice", "missing", "timeline", "timeline.note", "timeline.alt", "pictures",
                 "picture.note", "picture.none", "picture.alt", "legend.alt", "made", "none")  # fmt: skip
        tables = {
            "phases": self._phases(),
            "scans": self._scans(),
            "forecast": self._forecast(),
            "alarms": self._alarms(),
            "acts": self._acts(),
            "rejected": self._rejected(),
            "events": self._events(),
            "made": self._made(),
        }
        captions = tuple((s.volume_id, self._caption(s)) for s in self.a.scans)
        said = {w.replace(".", "_"): self.word(w) for w in words}
        missing = self._missing(findings)
        whole = missing == (self.word("missing.none"),)
        return Content(self.language, said, self._facts(), missing, whole, tables, captions)

    # ------------------------------------------------------------------ words and numbers

    def word(self, key: str, **params: str) -> str:
        return text(self.language, f"report.{key}", **params)

    def named(self, key: str, otherwise: str) -> str:
        known = f"report.{key}" in TABLES[self.language]
        return self.word(key) if known else otherwise

    def time(self, utc_s: float | None) -> str:
        if utc_s is None or not math.isfinite(utc_s):
            return self.word("unknown")
        return clock_text(utc_s)

    def date(self, utc_s: float | None) -> str:
        if utc_s is None or not math.isfinite(utc_s):
            return self.word("unknown")
        return f"{datetime.fromtimestamp(utc_s, UTC):%Y-%m-%d %H:%M:%S}"

    def dates(self, utc_s: float | None) -> str:
        """By both clocks, where they differ."""
        if utc_s is None or not math.isfinite(utc_s):
            return self.word("unknown")
        local = datetime.fromtimestamp(utc_s, self.made.zone)
        said = f"{self.date(utc_s)} UTC"
        if not local.utcoffset():
            return said
        return self.word(
            "dates", utc=said, local=f"{local:%Y-%m-%d %H:%M:%S}", offset=offset_text(local)
        )

    def _times(self) -> str:
        began = datetime.fromtimestamp(self.a.began_utc_s, self.made.zone)
        if not began.utcoffset():
            return self.word("times.note")
        return self.word("times.note.local", offset=offset_text(began))

    def known(self, value: float | None, write: Callable[[float], str]) -> str:
        if value is None or not math.isfinite(value):
            return self.word("unknown")
        return write(value)

    def decimal(self, value: float | None, digits: int = 1) -> str:
        return self.known(value, lambda v: formats.decimal(v, digits, self.language))

    def percent(self, fraction: float | None) -> str:
        shown = formats.percent(fraction)
        return self.word("unknown") if shown == formats.UNKNOWN else shown

    def tenths(self, fraction: float | None) -> str:
        """Of a percent, rounded as those are."""
        shown = formats.percent_tenths(fraction)
        if shown == formats.UNKNOWN:
            return self.word("unknown")
        return f"{formats.decimal(float(shown), 1, self.language)}{NBSP}%"

    def hundredths(self, value: float | None) -> str:
        return self.decimal(value, 2)

    def mm_down(self, value: float | None) -> str:
        return self.known(value, lambda v: formats.distance_mm(v, self.language).split(NBSP)[0])

    def signed(self, value: float | None) -> str:
        return self.known(value, lambda v: formats.signed_mm(v, self.language))

    def goal(self) -> str:
        return "?" if self.goal_mm is None else formats.decimal(
            self.goal_mm, 0 if self.goal_mm == int(self.goal_mm) else 1, self.language
        )  # fmt: skip

    # ------------------------------------------------------------------ head

    def _facts(self) -> tuple[tuple[str, str], ...]:
        a, f = self.a, self.a.started
        speed = number(f, "clock_speed")
        goal = self.word("unknown") if self.goal_mm is None else f"{self.goal()}{NBSP}mm"
        facts = [
            (self.word("patient"), self.made.patient_label or self.word("unknown")),
            (self.word("patient_id"), self.made.patient_id or self.word("unknown")),
            (self.word("began"), self.dates(a.began_utc_s)),
            (self.word("ended"), self.dates(a.ended_utc_s)),
            (self.word("times"), self._times()),
            (self.word("organ"), self._organ(f.get("organ"))),
            (self.word("goal"), goal),
            (self.word("needles"), self._needles(f.get("needles"))),
            (self.word("structures"), self._listed(f.get("structures"))),
        ]
        if speed is not None and speed != 1.0:
            fast = self.word("clock_speed.fast", speed=formats.decimal(speed, 0, self.language))
            facts.append((self.word("clock_speed"), fast))
        return tuple(facts)

    def _organ(self, name: Any) -> str:
        key = f"console.organ.{name}"
        known = key in TABLES[self.language]
        said = text(self.language, key) if known else str(name or self.word("unknown"))
        return said.replace("_", " ")

    def _listed(self, values: Any) -> str:
        if not isinstance(values, list):
            return self.word("unknown")
        said = [body_name(self.language, v) if isinstance(v, str) else str(v) for v in values]
        return ", ".join(said) or self.word("none")

    def _needles(self, recorded: Any) -> str:
        """As the case has them, which may have come after the record began."""
        said = [self.word("needle", number=n, type=name) for n, name in self.made.needles]
        return ", ".join(said) or self._listed(recorded)

    def _caption(self, s: ScanAccount) -> str:
        said = self.word("picture", scan=s.volume_id, time=self.time(s.acquired_utc_s))
        worked = self.worked.scans.get(s.volume_id)
        if worked is None or not worked.overtaken:
            return said
        return f"{said} — {self.word('picture.overtaken')}"

    def _missing(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        said = [] if self.a.ended_utc_s is not None else [self.word("running")]
        if self.worked.broken:
            said.append(self.word("missing.broken", why=self.worked.broken))
        found = sorted({(f.line, f.text) for f in (*findings, *self.worked.findings)})
        for line, what in found[:_MOST_FINDINGS]:
            said.append(self.word("missing.line", line=str(line), text=what))
        if len(found) > _MOST_FINDINGS:
            said.append(self.word("missing.more", count=str(len(found) - _MOST_FINDINGS)))
        return tuple(said) or (self.word("missing.none"),)

    # ------------------------------------------------------------------ phases and scans

    def _phases(self) -> Table:
        found = []
        for p in self.a.phases:
            length = None if p.end_utc_s is None else p.end_utc_s - p.start_utc_s
            found.append(
                (
                    self.word(f"phase.{p.kind}", cycle=str(p.cycle)),
                    self.time(p.start_utc_s),
                    self.time(p.end_utc_s),
                    self.known(length, formats.clock),
                )
            )
        heads = ("phase", "start", "end", "duration")
        return self._table("phases", tuple(self.word(h) for h in heads), found)

    def _scans(self) -> Table:
        names = list(
            dict.fromkeys(
                str(s.get("name")) for x in self.a.scans for s in rows(x.assessment, "structures")
            )
        )
        heads = [
            self.word("scan"),
            self.word("time.acquired"),
            self.word("time.known"),
            self.word("volume"),
            self.word("lesion"),
            self.word("margin", margin=self.goal()),
            self.word("min_margin"),
            *(self.word("distance", name=body_name(self.language, n)) for n in names),
            self.word("status"),
        ]
        found = [self._scan(s, names) for s in self.a.scans]
        fine = [s.assessment.get("status") == "OK" or self._is_baseline(s) for s in self.a.scans]
        marks = tuple("" if x else "warn" for x in fine)
        return self._table("scans", tuple(heads), found, self.word("scans.note"), marks)

    def _scan(self, s: ScanAccount, names: Sequence[str]) -> tuple[str, ...]:
        f = s.assessment
        by_name = {str(x.get("name")): x for x in rows(f, "structures")}
        margin = self.signed(number(f, "min_margin_mm"))
        if number(f, "min_margin_mm") is not None:
            error = formats.error_mm(number(f, "margin_error_mm"), self.language)
            margin = f"{margin} {error}"
        return (
            s.volume_id,
            self.time(s.acquired_utc_s),
            self.time(s.known_utc_s),
            self._volume(s),
            self._covered(f, "lesion_covered"),
            self._covered(f, "margin_covered"),
            margin,
            *(self._distance(f, by_name.get(n, {})) for n in names),
            self._status(s),
        )

    def _volume(self, s: ScanAccount) -> str:
        ml = number(s.assessment, "ice_volume_ml")
        if ml is None:
            return self.word("unknown")
        bounds = bounds_ml(self.worked.scans.get(s.volume_id))
        shown = self.decimal(ml)
        if bounds is None:
            return f"{shown} ({self.word('unknown')})"
        return f"{shown} ({self.decimal(bounds[0])}–{self.decimal(bounds[1])})"

    def _covered(self, f: Fields, name: str) -> str:
        shown, ends = self.percent(number(f, name)), interval(f, f"{name}_interval")
        between = formats.percent_range(*ends) if ends else None
        return shown if between is None or number(f, name) is None else f"{shown} ({between})"

    def _distance(self, f: Fields, s: Fields) -> str:
        mm, least = number(s, "distance_mm"), number(s, "at_least_mm")
        if mm is None:
            # The journal has null for "no ice" (infinitely far) as for "not known".
            return self.word("no_ice" if number(f, "ice_volume_ml") == 0.0 else "unknown")
        return f"{self.mm_down(mm)} ({self.word('at_least', mm=self.mm_down(least))})"

    def _is_baseline(self, s: ScanAccount) -> bool:
        """And nothing but that is why nothing was measured in it."""
        codes = {r.get("code") for r in rows(s.assessment, "reasons")}
        return s.volume_id == self.a.baseline_id and codes == {"baseline"}

    def _status(self, s: ScanAccount) -> str:
        said = []
        status = str(s.assessment.get("status") or "")
        if not self._is_baseline(s):
            said.append(self.named(f"status.{status}", self.word("unknown")))
        if s.volume_id == self.a.baseline_id:
            said.append(self.word("baseline"))
        else:
            said += reasons_of(s, self.language)
        if s.review and s.review != "measured":
            said.append(self.named(f"review.{s.review}", s.review))
        if s.revises:
            said.append(self.word("revises", ids=", ".join(s.revises)))
        return "; ".join(dict.fromkeys(said))

    # ------------------------------------------------------------------ forecast

    def _forecast(self) -> Table:
        found, marks, inside, of = [], [], 0, 0
        for s in self.a.scans:
            worked = self.worked.scans.get(s.volume_id)
            if worked is None or worked.expected is None:
                continue
            e = worked.expected
            row, held = [s.volume_id, self.time(s.acquired_utc_s)], []
            for ends, name, writes in (
                (e.ice_volume_ml, "ice_volume_ml", (self.decimal, self.hundredths)),
                (e.lesion_covered, "lesion_covered", (self.percent, self.tenths)),
                (e.margin_covered, "margin_covered", (self.percent, self.tenths)),
                (e.min_margin_mm, "min_margin_mm", (self.signed,)),
            ):
                c = compared(number(s.assessment, name), ends, writes)
                held.append(c.inside)
                row += [c.range, self._against(c)]
            found.append(tuple(row))
            marks.append("warn" if False in held else "")
            inside, of = inside + held.count(True), of + len(held) - held.count(None)
        what = ("volume", "lesion", "margin", "min_margin")
        named = [self.word(w, margin=self.goal()).split(" (")[0] for w in what]
        heads = [self.word("scan"), self.word("time")]
        for n in named:
            heads += [f"{n} — {self.word('forecast.of').lower()}", self.word("forecast.measured")]
        share = self.word("forecast.share", inside=str(inside), all=str(of)) if of else ""
        note = f"{self.word('forecast.note')} {share}".strip()
        return self._table("forecast", tuple(heads), found, note, tuple(marks))

    def _against(self, c: Compared) -> str:
        if c.inside is None:
            return self.word("unknown")
        return f"{c.value} ({self.word('forecast.inside' if c.inside else 'forecast.outside')})"

    # ------------------------------------------------------------------ alarms, acts, the rest

    def _alarms(self) -> Table:
        found = [
            (
                alarm_text(x, self.language),
                self.time(x.raised_utc_s),
                self.word("not_acknowledged")
                if x.acknowledged_utc_s is None
                else self.time(x.acknowledged_utc_s),
                self.word("stands") if x.cleared_utc_s is None else self.time(x.cleared_utc_s),
            )
            for x in self.a.alarms
        ]
        heads = tuple(self.word(w) for w in ("alarm", "raised", "acknowledged", "cleared"))
        high = [
            "high" in (x.priority, *(priority for _, priority, _ in x.changes))
            for x in self.a.alarms
        ]
        marks = tuple("warn" if x else "" for x in high)
        return self._table("alarms", heads, found, marks=marks)

    def _acts(self) -> Table:
        found = [(self.time(x.at_utc_s), act_text(x, self.language)) for x in self.a.acts]
        return self._table("acts", (self.word("time"), self.word("act")), found)

    def _rejected(self) -> Table:
        counts = Counter(rejection_text(x, self.language) for x in self.a.rejected)
        found = [(str(n), said) for said, n in counts.most_common()]
        return self._table("rejected", (self.word("count"), self.word("why")), found)

    def _events(self) -> Table:
        found = [(self.time(x.at_utc_s), event_text(x, self.language)) for x in self.a.events]
        return self._table("events", (self.word("time"), self.word("events")), found)

    def _made(self) -> Table:
        f = self.a.started
        unknown = self.word("unknown")
        recorded = self.word(
            "made.version",
            version=str(f.get("version") or unknown),
            engine=str(f.get("engine") or unknown),
        )
        now = self.word(
            "made.version", version=self.made.version, engine=self.worked.engine or unknown
        )
        found = [
            (self.word("made.recorded"), recorded),
            (self.word("made.report"), now),
            (self.word("made.journal"), self.made.journal_sha256),
        ]
        return self._table("made", (), found)

    def _table(
        self,
        name: str,
        heads: tuple[str, ...],
        found: Sequence[tuple[str, ...]],
        note: str = "",
        marks: tuple[str, ...] = (),
    ) -> Table:
        marks = marks or ("",) * len(found)
        return Table(self.word(name), heads, tuple(found), note, marks, self.word("none"))


def reasons_of(s: ScanAccount, language: str) -> list[str]:
    """Why the scan is not OK, in words, each once."""
    said = [
        reason_text(language, str(r.get("code")), str(r.get("text") or ""))
        for r in rows(s.assessment or s.volume, "reasons")
    ]
    if s.not_measured:
        key = f"report.not_measured.{s.not_measured}"
        said.append(TABLES[language].get(key, s.not_measured))
    return list(dict.fromkeys(said))


def bounds_ml(scan: WorkedScan | None) -> tuple[float, float] | None:
    """The volumes of the inner and the outer bound, of a scan that came out as it was recorded."""
    if scan is None or scan.differs:
        return None
    past = next(
        (p for p in scan.shown.history if p.assessment.volume_id == scan.volume.volume_id), None
    )
    ends = past.volume_ml if past else None
    return ends if ends is not None and all(math.isfinite(v) for v in ends) else None
