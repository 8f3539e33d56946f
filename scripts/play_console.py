"""A whole procedure at the technologist's console, by mouse and keys, from nothing to the end. LPS mm, s.

    python scripts/play_console.py --out out/guide [--language fr] [--speed 2]

plays it on two monitors in memory with the simulator's scans, saves a PNG of both at each step
(``NN_name_console.png``, ``NN_name_room.png``) and says what it took to be ready for the first freeze.
Invariant: the plan is what these hands draw; the simulator's own is used by nobody.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from console_hands import CONSOLE_MONITOR, ROOM_MONITOR, Console, Live, after, live
from desktop import Effort, Hands, desktop, missing_tools, until
from scanner_desk import rendered, send

from scanner_sim.wire.push import Clock

SCENARIO = "abdominal_wall_endometriosis"
SPEED = 2.0
# Of the scenario: lesion and bowel in the slice z = 0, when its freeze begins, when it scans.
LESION_MM, LESION_SEMI_MM = (36.0, -84.0), (12.0, 8.0)
_BOWEL_MM = ((31.0, -47.0), (24.0, -45.0), (40.0, -46.0))
_FREEZE_AFTER_S = 60.0
_SCANS_S = (0.0, 180.0, 360.0, 540.0, 655.0, 900.0, 1080.0, 1200.0, 1315.0)
_THAW_S, _AGAIN_S, _END_S = 600.0, 900.0, 1260.0
# The next phase is begun by hand this long before it would begin by itself.
_EARLY_S = 20.0
# An image reaches the monitor this long after the middle of its acquisition.
_SENT_AFTER_S = 8.0


@dataclass
class Told:
    """What the procedure took. ``plan``: until the plan was sent, without what was waited for."""

    plan: Effort = field(default_factory=Effort)
    plan_s: float = 0.0
    waited_s: float = 0.0
    whole: Effort = field(default_factory=Effort)

    def __str__(self) -> str:
        p = self.plan
        return (
            f"Until the first freeze: {p.acts} acts: {p.clicks} clicks, {p.drags} drags, {p.keys} keys, in "
            f"{self.plan_s:.0f} s here, {self.waited_s:.0f} s of them waiting for the computer. A trained "
            f"person: {p.person_s():.0f} s (keystroke-level model), with the waiting "
            f"{p.person_s() + self.waited_s:.0f} s. Whole procedure: {self.whole.acts} acts."
        )


class Play:
    """The procedure, act by act."""

    def __init__(
        self, hands: Hands, running: Live, scans: Path, clock: Clock, pictures: Path, language: str
    ) -> None:
        self.hands, self.live, self.scans, self.clock = hands, running, scans, clock
        self.console = Console(hands, language)
        self.told = Told()
        self._pictures = pictures
        self._number = 0
        self._port = running.wait("listening")["port"]
        self._baseline_utc_s = self._freeze_utc_s = 0.0

    def picture(self, name: str) -> None:
        self._number += 1
        time.sleep(0.6)  # what was asked for last is drawn
        for monitor, of in ((CONSOLE_MONITOR, "console"), (ROOM_MONITOR, "room")):
            path = self._pictures / f"{self._number:02d}_{name}_{of}.png"
            self.hands.picture(monitor).save(path)

    def whole(self) -> Told:
        """From nothing to the end."""
        self.plan()
        self.first_freeze()
        self.thaw_and_second_freeze()
        self.end()
        self.told.whole = self.hands.effort
        return self.told

    def plan(self) -> Told:
        """Up to where the freeze can be started."""
        self.console.bring_up()
        self._acknowledge_what_is_over()
        self.picture("nothing_yet")
        self.baseline_arrives()
        began, before = time.monotonic(), copy.copy(self.hands.effort)
        self.take_baseline()
        self.mark_lesion()
        self.mark_bowel()
        self.find_needles()
        self.choose_organ_and_send()
        self.told.plan_s = time.monotonic() - began
        self.told.plan = self.hands.effort - before
        self.told.whole = self.hands.effort
        return self.told

    def _acknowledge_what_is_over(self) -> None:
        """On a busy machine the monitor may have been silent while it started, which is said until seen."""
        time.sleep(3.0)
        raised = self.live.lines("alarm_raised")
        if any(line["code"] == "core_silent" for line in raised):
            until(self.console.acknowledge, "alarm to acknowledge")
            self.live.wait("alarm_acknowledged", code="core_silent")

    # ------------------------------------------------------------------ up to the start

    def baseline_arrives(self) -> None:
        self._baseline_utc_s = self.clock.now_utc_s()
        send(self.scans / "scan_000", self._baseline_utc_s, self._port)
        after(lambda: self.live.wait("volume_completed"), 1.0)
        self.picture("baseline_received")

    def take_baseline(self) -> None:
        self.console.press("console.baseline.pick")
        self._waited(lambda: self.live.wait("baseline_set"))
        self.picture("baseline_taken")

    def mark_lesion(self) -> None:
        console, (x, y), (long, short) = self.console, LESION_MM, LESION_SEMI_MM
        console.step(2)
        console.find_plane((0.0, 0.0))
        console.zoom_at(LESION_MM, 3)
        console.press("console.lesion.strokes")
        console.drag_mm((x - long, y), (x + long, y))
        console.drag_mm((x, y - short), (x, y + short))
        self.picture("lesion_by_two_strokes")
        console.press("console.lesion.grow")
        self._waited(lambda: console.wait_enabled(1))
        self.picture("lesion_grown")
        console.press("console.brush.add")
        console.drag_mm((x + 8.0, y), (x + 8.0, y + 1.0))
        console.press("console.brush.add")
        self.picture("lesion_by_brush")

    def mark_bowel(self) -> None:
        console = self.console
        console.step(3)
        console.click_field(0)
        self.hands.key("ctrl+a")
        self.hands.type("bowel" if console.language == "en" else "intestin")
        console.press("console.structures.new")
        console.click_mm(*_BOWEL_MM[0])
        console.drag_mm(_BOWEL_MM[1], _BOWEL_MM[2])
        self.picture("structure")

    def find_needles(self) -> None:
        self.console.step(4)
        self.console.press("console.needles.find")
        self._waited(lambda: self.console.wait_enabled(0))
        self.picture("needles_found")

    def choose_organ_and_send(self) -> None:
        self.console.step(5)
        self.console.click_field(0)
        self.hands.key("Down", "Return")
        self.picture("organ_and_protocol")
        self.console.press("console.protocol.send")
        self._waited(lambda: self.live.wait("baseline_set", 2))
        self.console.step(6)
        self.picture("ready")

    def _waited(self, wait: object) -> None:
        began = time.monotonic()
        after(wait, 0.2)  # type: ignore[arg-type]
        self.told.waited_s += time.monotonic() - began

    # ------------------------------------------------------------------ freeze, thaw, freeze

    def first_freeze(self) -> None:
        console = self.console
        console.press_enabled("console.monitor.start", 0)
        self.live.wait("phase", phase="freeze", cycle=1)
        self._freeze_utc_s = self.clock.now_utc_s()
        self.picture("freezing")
        self._scan(1)
        console.press_enabled("console.monitor.accept", 4)
        self.live.wait("ice_reviewed", verdict="accepted")
        self.picture("scan_accepted")
        self._stop_a_needle_and_take_it_back()
        console.press("console.monitor.what_if")
        console.press_enabled("console.whatif.ask", 2)
        self.live.wait("what_if")
        self.picture("what_if")
        console.press("console.monitor.now")
        self._scan(2)
        console.press_enabled("console.monitor.reject", 5)
        self.live.wait("ice_reviewed", verdict="rejected")
        self.picture("scan_rejected")
        self._acknowledge()
        self._take_back("reject_ice")
        self._scan(3)
        self._correct()
        self._until(_THAW_S - _EARLY_S)

    def _acknowledge(self) -> None:
        """That there is no measurement, which follows from the rejection."""
        self.live.wait("alarm_raised", code="segmentation_poor", priority="medium")
        until(self.console.acknowledge, "alarm to acknowledge")
        self.live.wait("alarm_acknowledged")
        self.picture("alarm_acknowledged")

    def _stop_a_needle_and_take_it_back(self) -> None:
        self.console.wait_enabled(2)
        self.console.click_button(2)
        self.live.wait("needle_set", number=1, duty=0.0)
        self.picture("needle_stopped")
        self._take_back("needle")

    def _take_back(self, act: str) -> None:
        self.console.wait_enabled(8)
        self.console.click_button(8)
        self.live.wait("undone", act=act)

    def _correct(self) -> None:
        """Some ice added at its rim by brush."""
        console, (x, y) = self.console, LESION_MM
        console.press_enabled("console.monitor.correct", 6)
        console.drag_mm((x - 22.0, y), (x - 20.0, y))
        self.picture("scan_corrected_by_brush")
        console.press_enabled(
            "console.monitor.use", 6
        )  # the brush, being chosen, has another colour
        self.live.wait("ice_reviewed", verdict="corrected")
        self.picture("scan_corrected")

    def thaw_and_second_freeze(self) -> None:
        """The thaw is begun too early, which is taken back at once."""
        self.console.press_enabled("console.monitor.next", 0)
        self.live.wait("phase", phase="thaw")
        self._take_back("phase_next")
        self.picture("phase_taken_back")
        self.console.press_enabled("console.monitor.next", 0)
        self.live.wait("phase", 2, phase="thaw")
        self.picture("thaw")
        self._scan(4)  # of the freeze's last seconds, and sent when it is over
        self._scan(5)
        self._until(_AGAIN_S - _EARLY_S)
        self.console.press_enabled("console.monitor.next", 0)
        self.live.wait("phase", phase="freeze", cycle=2)
        self.picture("second_freeze")
        for number in (6, 7, 8):
            self._scan(number)
        self.picture("end_of_second_freeze")

    def end(self) -> None:
        self.live.wait("phase", phase="ended", patience_s=120.0)
        self.picture("ended")
        self.console.press("console.end")
        self.console.press("console.end")
        self.live.process.wait(90)

    # ------------------------------------------------------------------ the scanner, the clock

    def _scan(self, number: int) -> None:
        """As late after the freeze began as in the scenario; until it has been measured."""
        taken_s = _SCANS_S[number] - _FREEZE_AFTER_S
        self._until(taken_s + _SENT_AFTER_S)
        send(self.scans / f"scan_{number:03d}", self._freeze_utc_s + taken_s, self._port)
        after(lambda: self.live.wait("assessment", volume_id=f"v{number + 1:03d}"), 1.0)
        self.picture(f"scan_{number}")

    def _until(self, since_freeze_s: float) -> None:
        self.clock.wait_until(self._freeze_utc_s + since_freeze_s)


def play(
    out: Path, scans: Path, language: str = "en", speed: float = SPEED, plan_only: bool = False
) -> Told:
    """Plays it, or the making of its plan alone; pictures, record and log are in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    clock = Clock(time.time(), speed)
    with desktop() as hands, live(hands, out, language, clock.epoch_utc_s, speed) as running:
        played = Play(hands, running, scans, clock, out, language)
        return played.plan() if plan_only else played.whole()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new, or empty")
    parser.add_argument(
        "--scans", type=Path, metavar="DIR", help=f"of `scanner-sim render {SCENARIO}`"
    )
    parser.add_argument("--language", choices=("en", "fr"), default="en")
    parser.add_argument(
        "--speed", type=float, default=SPEED, help="times life; default %(default)s"
    )
    parser.add_argument("--plan-only", action="store_true", help="end where the freeze would begin")
    args = parser.parse_args()
    if missing_tools():
        print(f"needs {', '.join(missing_tools())}: sh scripts/system_packages.sh test")
        return 2
    scans = rendered(SCENARIO, args.scans or args.out / "scans")
    print(play(args.out, scans, args.language, args.speed, args.plan_only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
