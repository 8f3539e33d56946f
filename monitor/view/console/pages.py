"""The pages of the console's six steps. Logical pixels, mm, minutes.

A page shows what a ``Desk`` (the window) knows and asks it to act; it keeps nothing of its own but what is
being typed. Invariant: a page can be left and come back to at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from PyQt5.QtWidgets import QCheckBox, QHBoxLayout, QLabel

from monitor.case import needle_names, organ_names, organ_preset
from monitor.config import PhaseConfig, ShapeFile
from monitor.model import PhaseKind
from monitor.planning.draft import DEFAULT_LIMIT_MM, DEFAULT_NEEDLE
from monitor.snapshot import Snapshot
from monitor.view import formats
from monitor.view.console.editor import Editor
from monitor.view.console.pacs import Found, FromPacs
from monitor.view.console.parts import Page, enabled, filled, spin
from monitor.view.console.words import Words
from monitor.view.translations import TABLES, body_name
from monitor.view.viewmodel import ScreenModel

if TYPE_CHECKING:
    from monitor.intake.structures import Part

BODIES = tuple(key.removeprefix("body.") for key in TABLES["en"] if key.startswith("body."))


class Desk(Protocol):
    """What a page may ask of the window."""

    words: Words
    editor: Editor
    pacs: FromPacs
    model: ScreenModel

    @property
    def snapshot(self) -> Snapshot | None: ...
    def act(self, name: str, **params: Any) -> None: ...
    def import_file(self, target: str) -> None: ...
    def ask_pacs(self, target: str) -> None: ...
    def send_plan(self) -> None: ...
    def send_correction(self) -> None: ...
    def pick(self, row: int) -> None: ...


class BaselinePage(Page):
    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.words, "console.step.baseline")
        self.label("console.baseline.hint")
        self.scans = self.listing(8)
        self.take = self.button("console.baseline.pick", lambda: desk.pick(self.scans.currentRow()))
        self.chosen = self.label("console.baseline.none")
        self.column.addStretch(1)

    def show_state(self, desk: Desk, may: bool) -> None:
        s = desk.snapshot
        received = list(reversed(s.received)) if s else []
        say = desk.words.say
        filled(
            self.scans,
            [
                say(
                    "console.baseline.row",
                    id=r.volume_id,
                    slices=str(r.slices),
                    patient=r.patient_id or "—",
                )
                for r in received
            ],
        )
        before = s is not None and s.phase.kind is PhaseKind.WAITING
        enabled({self.take: may and before and bool(received)})
        if s is not None and s.baseline_id and desk.editor.draft.patient_id is not None:
            desk.words.put(self.chosen.setText, "console.baseline.is", id=s.baseline_id)
        else:
            desk.words.put(self.chosen.setText, "console.baseline.none")


class BodyPage(Page):
    """Brush and import, which lesion and structures share."""

    def __init__(self, desk: Desk, title: str, target: str) -> None:
        super().__init__(desk.words, title)
        self.desk, self.target = desk, target

    def add_brush(self) -> None:
        use = self.desk.editor.use
        self.add = self.button("console.brush.add", lambda: use(f"{self.target}.add"), True)
        self.erase = self.button("console.brush.erase", lambda: use(f"{self.target}.erase"), True)
        self.side_by_side(self.add, self.erase)
        self.radius = self.number("console.brush.size", 1.0, 30.0, 5.0, "mm")

    def add_import(self) -> None:
        self.from_file = self.button("console.import", lambda: self.desk.import_file(self.target))
        self.from_pacs = self.button("console.pacs", lambda: self.desk.ask_pacs(self.target))
        self.from_pacs.setVisible(self.desk.pacs.available)
        self.side_by_side(self.from_file, self.from_pacs)
        self.which = self.label("")
        self.parts = self.listing(4)
        self.parts.itemActivated.connect(lambda *_: self._choose())
        self.take_part = self.button("console.import.take", self._choose)

    def _choose(self) -> None:
        if self.desk.pacs.listed and self.desk.pacs.target == self.target:
            self.desk.pacs.take(self.parts.currentRow())
        else:
            self.desk.editor.choose(self.parts.currentRow())

    def _show_pacs(self) -> None:
        pacs, say = self.desk.pacs, self.desk.words.put
        mine = pacs.target == self.target
        if not pacs.busy or not mine:
            say(self.from_pacs.setText, "console.pacs")
        elif pacs.received is None:
            say(self.from_pacs.setText, "console.pacs.stop")
        else:
            of = "?" if pacs.of is None else str(pacs.of)
            say(self.from_pacs.setText, "console.pacs.stop_at", done=str(pacs.received), of=of)
        enabled({self.from_pacs: mine if pacs.busy else not self.desk.editor.worker.busy})

    def show_offered(self) -> None:
        """The bodies of a file that holds several, or what a PACS has, while one is to be chosen."""
        editor, words, pacs = self.desk.editor, self.desk.words, self.desk.pacs
        offered = editor.offered if not editor.worker.busy else None
        listed = pacs.listed if pacs.target == self.target and not pacs.busy else ()
        mine = bool(listed) or (offered is not None and offered.target == self.target)
        appears = mine and self.parts.isHidden()
        self._show_pacs()
        for widget in (self.which, self.parts, self.take_part):
            widget.setVisible(mine)
        enabled({self.take_part: mine, self.from_file: not editor.worker.busy and not pacs.busy})
        if listed:
            words.put(self.which.setText, "console.pacs.which")
            filled(self.parts, [_listed(found) for found in listed])
        elif mine and offered is not None:
            words.put(self.which.setText, "console.import.which", file=offered.path.name)
            filled(self.parts, [_part(words, part) for part in offered.parts])
        if appears:
            self.parts.setCurrentRow(0)
            self.parts.setFocus()


def _listed(found: Found) -> str:
    date = f"{found.date[:4]}-{found.date[4:6]}-{found.date[6:8]}" if found.date else "—"
    return f"{date}  {found.modality}  {found.description}".rstrip()


def _part(words: Words, part: Part) -> str:
    if part.name:
        return f"{part.number}: {body_name(words.language, part.name)}"
    return words.say("console.import.part", number=str(part.number))


class LesionPage(BodyPage):
    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, "console.step.lesion", "lesion")
        self.label("console.lesion.hint")
        self.strokes = self.button(
            "console.lesion.strokes", lambda: desk.editor.use("strokes"), True
        )
        self.to_boundary = self.button("console.lesion.grow", desk.editor.grow)
        self.add_brush()
        self.add_import()
        self.state = self.label("console.lesion.none")
        self.column.addStretch(1)

    def show_state(self, desk: Desk, may: bool, tool: str, can_grow: bool, image: bool) -> None:
        self.show_offered()
        lesion = desk.editor.draft.lesion
        self.strokes.setChecked(tool == "strokes")
        self.add.setChecked(tool == "lesion.add")
        self.erase.setChecked(tool == "lesion.erase")
        drawn = lesion is not None and not isinstance(lesion, ShapeFile)
        enabled(
            {self.strokes: image, self.to_boundary: can_grow, self.add: image, self.erase: drawn}
        )
        if lesion is None:
            desk.words.put(self.state.setText, "console.lesion.none")
        elif isinstance(lesion, ShapeFile):
            desk.words.put(self.state.setText, "console.lesion.file", file=lesion.path.name)
        else:
            ml = formats.decimal(lesion.volume_ml, 1, desk.words.language)
            desk.words.put(self.state.setText, "console.lesion.volume", ml=ml)


class StructuresPage(BodyPage):
    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, "console.step.structures", "structure")
        self.label("console.structures.hint")
        self.name = self.choice("console.structures.name")
        self.name.setEditable(True)
        self.limit = self.number("console.structures.limit", 0.0, 100.0, DEFAULT_LIMIT_MM, "mm")
        self.new = self.button(
            "console.structures.new", lambda: desk.editor.use("structure.new"), True
        )
        self.add_brush()
        self.add_import()
        self.all = self.listing(3)
        self.remove = self.button("console.remove", self._remove)
        self.none = QCheckBox()
        desk.words.put(self.none.setText, "console.structures.none")
        self.none.clicked.connect(lambda on: desk.editor.edit("structures", no_structures=bool(on)))
        self.column.addWidget(self.none)
        self.column.addStretch(1)
        self._spoken = ""

    def chosen_name(self) -> str:
        """In English where it is a well-known one, as a case names it."""
        typed = str(self.name.currentText()).strip()
        known = {body_name(self.words.language, b): b for b in BODIES}
        return known.get(typed, typed)

    def show_state(self, desk: Desk, tool: str, image: bool) -> None:
        self.show_offered()
        if self._spoken != desk.words.language:
            self._spoken = desk.words.language
            at = max(self.name.currentIndex(), 0)
            self.name.clear()
            self.name.addItems([body_name(self._spoken, b) for b in BODIES])
            self.name.setCurrentIndex(at)
        structures = desk.editor.draft.structures
        filled(self.all, [body_name(desk.words.language, s.name) for s in structures])
        for button, name in ((self.new, "new"), (self.add, "add"), (self.erase, "erase")):
            button.setChecked(tool == f"structure.{name}")
        some = bool(structures)
        enabled(
            {self.new: image, self.add: image and some, self.erase: image and some,
             self.remove: some, self.none: not some}
        )  # fmt: skip
        self.none.setChecked(desk.editor.draft.no_structures and not some)

    def _remove(self) -> None:
        rest = list(self.desk.editor.draft.structures)
        if 0 <= self.all.currentRow() < len(rest):
            rest.pop(self.all.currentRow())
            self.desk.editor.edit("structures", structures=tuple(rest))


class NeedlesPage(Page):
    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.words, "console.step.needles")
        self.desk = desk
        self.label("console.needles.hint")
        self.kind = self.choice("console.needles.type")
        self.kind.addItems(needle_names())
        self.kind.setCurrentText(DEFAULT_NEEDLE)
        self.search = self.button("console.needles.find", desk.editor.find_needles)
        self.clicks = self.button("console.needles.clicks", lambda: desk.editor.use("needle"), True)
        self.all = self.listing(7)
        self.remove = self.button("console.remove", self._remove)
        self.column.addStretch(1)

    def show_state(self, desk: Desk, tool: str, image: bool, idle: bool) -> None:
        say, needles = desk.words.say, desk.editor.draft.needles
        rows = [
            say(
                "console.needles.row",
                number=str(n.number),
                type=n.type,
                how=say(f"console.needles.{'on_metal' if n.on_metal else 'by_hand'}"),
            )
            for n in needles
        ]
        filled(self.all, rows)
        self.clicks.setChecked(tool == "needle")
        enabled(
            {self.search: image and idle and desk.editor.draft.lesion is not None,
             self.clicks: image, self.remove: bool(needles)}
        )  # fmt: skip

    def _remove(self) -> None:
        rest = list(self.desk.editor.draft.needles)
        if 0 <= self.all.currentRow() < len(rest):
            rest.pop(self.all.currentRow())
            self.desk.editor.edit("needles", needles=tuple(rest))


class ProtocolPage(Page):
    """Freeze, thaw, freeze: the lengths of the organ's phases, to be changed."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.words, "console.step.protocol")
        self.desk = desk
        self.organ = self.choice("console.protocol.organ")
        self.organ.activated.connect(self._organ)
        self.margin = self.number("console.protocol.margin", 0.0, 30.0, 5.0, "mm")
        self.margin.valueChanged.connect(self._goal)
        self.minutes = []
        for i in range(5):
            key = "console.protocol.thaw" if i % 2 else "console.protocol.freeze"
            row = QHBoxLayout()
            label = QLabel()
            desk.words.put(label.setText, key, cycle=str(i // 2 + 1))
            minutes = spin(0.0, 60.0, 0.0, "min")
            row.addWidget(label, 1)
            row.addWidget(minutes)
            self.column.addLayout(row)
            minutes.valueChanged.connect(self._phases)
            self.minutes.append(minutes)
        self.send = self.button("console.protocol.send", desk.send_plan)
        self.column.addStretch(1)
        self._filling, self._spoken = False, ""

    def show_state(self, desk: Desk, may_send: bool) -> None:
        self._filling = True
        if self._spoken != desk.words.language:
            self._spoken = desk.words.language
            self.organ.clear()
            self.organ.addItem(desk.words.say("console.protocol.choose"))
            self.organ.addItems([desk.words.say(f"console.organ.{n}") for n in organ_names()])
        names = ("", *organ_names())
        self.organ.setCurrentIndex(names.index(desk.editor.draft.organ))
        preset = organ_preset(desk.editor.draft.organ) if desk.editor.draft.organ else None
        phases = desk.editor.draft.phases or (preset.phases if preset else ())
        goal = desk.editor.draft.margin_goal_mm
        if goal is None:
            goal = preset.margin_goal_mm if preset else 5.0
        if not self.margin.hasFocus():
            self.margin.setValue(goal)
        for i, field in enumerate(self.minutes):
            if not field.hasFocus():
                field.setValue(phases[i].duration_s / 60.0 if i < len(phases) else 0.0)
            enabled({field: preset is not None})
        enabled({self.margin: preset is not None, self.send: may_send})
        self._filling = False

    def _organ(self, row: int) -> None:
        name = ("", *organ_names())[row]
        self.desk.editor.edit("organ", organ=name, phases=None, margin_goal_mm=None)

    def _goal(self, mm: float) -> None:
        if not self._filling:
            self.desk.editor.edit("margin", margin_goal_mm=float(mm))

    def _phases(self, *_: Any) -> None:
        """Up to the first of no length."""
        if self._filling:
            return
        kinds = (PhaseKind.FREEZE, PhaseKind.THAW)
        phases = []
        for i, field in enumerate(self.minutes):
            if field.value() < 0.1:
                break
            phases.append(PhaseConfig(kinds[i % 2], 60.0 * field.value()))
        if phases:
            self.desk.editor.edit("phases", phases=tuple(phases))
