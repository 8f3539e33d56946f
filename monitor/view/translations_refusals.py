"""Why an act was not done, in English and French, but for what is wrong with files (``translations_files``).
No units but placeholders.

The core says it in English, as its journal has it; the English sentences here are those, word for word,
with placeholders where the core fills in, and find the French one. Invariant: as in ``translations``; a test
holds that every refusal of the core is here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from monitor.view import translations_files

ENGLISH: dict[str, str] = {
    "refused.needle_unknown": "needle {number} is not one of this case ({known})",
    "refused.needle_already": "needle {number} is at {percent} % already",
    "refused.needle_number": "expected the number of a needle, got {got}",
    "refused.duty": "expected a duty of 0 to 100 %, got {got}",
    "refused.rejected_already": "{id} has been rejected already",
    "refused.reviewed_already": "{id} has been {verdict} already; undo that first",
    "refused.picked_already": "{id} has been picked already",
    "refused.nothing_to_accept": "there is no measurement of {id} to accept",
    "refused.nothing_drawn": "no ice was drawn",
    "refused.not_matched": "scan and baseline could not be matched: where the ice lies is not known",
    "refused.drawn_elsewhere": "nothing of the drawn ice lies around lesion and needles",
    "refused.nothing_measured": "no scan has been measured yet",
    "refused.blocked": "images of another patient or frame of reference came; clear that first",
    "refused.only_latest": "only the scan measured last can be reviewed, {latest}, not {id}",
    "refused.nothing_to_undo": "there is nothing to undo",
    "refused.nothing_is_blocked": "nothing is blocked",
    "refused.against": "the baseline {id} stands against it: {why}",
    "refused.not_received": "{id} has not been received ({known})",
    "refused.none_received": "no volume has been received yet",
    "refused.freeze_begun": "the first freeze has begun: the baseline stays",
    "refused.after_freeze": "{id} was acquired after the first freeze began",
    # what is said of a scan, a file, a field of one; what has no sentence of its own here
    "refused.of": "{of}: {why}",
    "refused.technical": "{why}",
    "refused.other_patient": "it is of another patient than the case",
    "refused.other_frame": "it is of another frame of reference than the case",
    "refused.too_little": "it shows too little of the lesion",
    # what was drawn
    "drawing.long_axis_length": "The long axis must be 3 to 150 mm long: draw both axes again.",
    "drawing.short_axis_length": "The short axis must run 3 to 150 mm across the long one: draw both again.",
    "drawing.empty": "Nothing would be left of it.",
    # acts, as they are named in a refusal
    "act.open_case": "sending the plan",
    "act.reload": "reading the case again",
    "act.pick_baseline": "choosing the baseline",
    "act.needle": "setting the needle",
    "act.accept_ice": "accepting the scan",
    "act.reject_ice": "rejecting the scan",
    "act.correct_ice": "correcting the scan",
    "act.undo": "taking back",
    "act.what_if": "what if",
}

FRENCH: dict[str, str] = {
    "refused.needle_unknown": "la sonde {number} n’est pas de ce cas ({known})",
    "refused.needle_already": "la sonde {number} est déjà à {percent} %",
    "refused.needle_number": "numéro de sonde attendu, reçu {got}",
    "refused.duty": "puissance de 0 à 100 % attendue, reçu {got}",
    "refused.rejected_already": "{id} est déjà rejeté",
    "refused.reviewed_already": "{id} est déjà {verdict} ; revenir d’abord là-dessus",
    "refused.picked_already": "{id} est déjà la référence choisie",
    "refused.nothing_to_accept": "il n’y a pas de mesure de {id} à accepter",
    "refused.nothing_drawn": "aucune glace n’a été tracée",
    "refused.not_matched": "CT et référence n’ont pu être mis en correspondance : on ne sait où est la glace",
    "refused.drawn_elsewhere": "rien de la glace tracée n’est autour de la lésion et des sondes",
    "refused.nothing_measured": "aucun CT n’a encore été mesuré",
    "refused.blocked": "des images d’un autre patient ou repère spatial sont arrivées ; débloquer d’abord",
    "refused.only_latest": "seul le dernier CT mesuré peut être revu : {latest}, pas {id}",
    "refused.nothing_to_undo": "il n’y a rien à reprendre",
    "refused.nothing_is_blocked": "rien n’est bloqué",
    "refused.against": "la référence {id} s’y oppose : {why}",
    "refused.not_received": "{id} n’a pas été reçu ({known})",
    "refused.none_received": "aucun CT n’a encore été reçu",
    "refused.freeze_begun": "la première congélation a commencé : la référence reste",
    "refused.after_freeze": "{id} a été acquis après le début de la première congélation",
    "refused.of": "{of} : {why}",
    "refused.technical": "message technique, en anglais : {why}",
    "refused.other_patient": "il est d’un autre patient que le cas",
    "refused.other_frame": "il est d’un autre repère spatial que le cas",
    "refused.too_little": "il montre trop peu de la lésion",
    "drawing.long_axis_length": "Le grand axe doit mesurer 3 à 150 mm : retracer les deux axes.",
    "drawing.short_axis_length": "Le petit axe doit traverser le grand sur 3 à 150 mm : retracer les deux.",
    "drawing.empty": "Il n’en resterait rien.",
    "act.open_case": "envoi du plan",
    "act.reload": "relecture du cas",
    "act.pick_baseline": "choix de la référence",
    "act.needle": "réglage de la sonde",
    "act.accept_ice": "acceptation du CT",
    "act.reject_ice": "rejet du CT",
    "act.correct_ice": "correction du CT",
    "act.undo": "reprise",
    "act.what_if": "et si",
}

_HOLE = re.compile(r"\\\{(\w+)\\\}")
# Said of anything, by anything: found by no pattern.
_FRAMES = ("refused.of", "refused.technical")


@lru_cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Those with the most words of their own first: what a hole takes may be anything."""
    known = {**ENGLISH, **translations_files.ENGLISH}
    keys = [key for key in known if key.startswith("refused.") and key not in _FRAMES]
    keys.sort(key=lambda key: -len(re.sub(r"\{\w+\}", "", known[key])))
    return tuple((key, _pattern(known[key])) for key in keys)


def _pattern(sentence: str) -> re.Pattern[str]:
    """What a sentence begins with does not reach beyond a colon: that would be a file's or a field's name."""
    holes = _HOLE.sub(r"(?P<\1>.+?)", re.escape(sentence))
    return re.compile(re.sub(r"^(\(\?P<\w+>)\.\+\?", r"\1(?:(?!: ).)+?", holes), re.DOTALL)


def _direct(reason: str) -> tuple[str, dict[str, str]] | None:
    for key, pattern in _patterns():
        found = pattern.fullmatch(reason)
        if found is not None:
            return key, found.groupdict()
    return None


def parsed(reason: str) -> tuple[str, dict[str, str]] | None:
    """The key of an English reason and what stands in its placeholders; None where it is not known."""
    found = _direct(reason)
    at = reason.find(": ")
    while found is None and at >= 0:
        if _direct(reason[at + 2 :]) is not None:
            found = "refused.of", {"of": reason[:at], "why": reason[at + 2 :]}
        at = reason.find(": ", at + 1)
    return found
