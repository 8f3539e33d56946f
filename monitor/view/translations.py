"""Every sentence of the screen, in English and French. No units or numbers but placeholders.

Keys: plain ones for the screen's own words, ``alarm.CODE`` for alarms (filled by the alarm's
params), ``reason.CODE`` for why a result is not OK, ``body.NAME`` for structures.
Invariant: both languages have the same keys and, for each key, the same placeholders.
"""

from __future__ import annotations

import string
from collections.abc import Mapping

from monitor.view import (
    translations_alarms,
    translations_console,
    translations_files,
    translations_refusals,
    translations_replay,
    translations_report,
)

LANGUAGES = ("en", "fr")

_EN: dict[str, str] = {
    # header
    "cycle": "Cycle {cycle}",
    "phase.waiting": "NOT STARTED",
    "phase.freeze": "FREEZE",
    "phase.thaw": "THAW",
    "phase.ended": "ENDED",
    "no_patient": "No patient",
    # readouts
    "lesion_covered": "Lesion covered (ice)",
    "margin_covered": "Lesion + {margin} mm",
    "min_margin": "Minimal margin, measured",
    "time_to_margin": "Lesion + {margin} mm covered in",
    "structure": "{name} ↔ ice",
    "structure_none": "Critical structure",
    "structure_none_value": "none given",
    "no_ice": "no ice",
    "last_ct": "Last CT: {age}",
    "next_ct": "Next CT in {clock}",
    "next_ct_now": "Next CT: now",
    "next_ct_off": "Next CT: —",
    "next.image_age": "else the CT is too old",
    "next.unmeasured": "last CT not assessed",
    "next.horizon": "nothing to decide before",
    "next.covered": "margin covered?",
    "next.perhaps_covered": "margin perhaps covered?",
    "next.limit": "{name} at its limit?",
    "next.then": "{decision} in {clock}",
    "next.phase_end": "end of phase",
    "simulation": "Predicted: {clock}",
    "ct.earlier": "earlier CT",
    "interval": "90 % interval: {range}",
    "unsure": "uncertain measurement",
    "measured_ago": "measured {age} ago",
    "reached": "reached",
    "confirm": "CT to confirm",
    "others": "+{count}",
    "alarm_over": "OVER, not acknowledged: {sentence}",
    # states
    "state.no_core": "The monitor is starting",
    "state.waiting": "Waiting for the scanner",
    "state.waiting.hint": "no baseline scan yet",
    "state.waiting.received": "CT {id} received",
    "state.waiting.choose": "no baseline yet: choose it at the console",
    "state.waiting.unfit": "no baseline yet: scan the lesion before freezing",
    "state.baseline": "Baseline {id} received",
    "state.baseline.no_plan": "no plan yet: nothing is measured",
    "state.baseline.no_needles": "no needle is known: ice cannot be measured",
    "state.baseline.start": "next: start the freeze (F)",
    "state.baseline.hint": "no ice measured yet",
    "state.invalid": "No measurement",
    "state.blocked": "DISPLAY BLOCKED",
    "state.blocked.patient": "plan: {expected}\nCT: {received}",
    "state.blocked.hint": "Check patient and plan. To clear: press C twice.",
    "state.core_silent": "MONITOR NOT RESPONDING",
    "state.view_error": "DISPLAY ERROR",
    # structures, where a case names them in English
    "body.skin": "skin",
    "body.bowel": "bowel",
    "body.colon": "colon",
    "body.duodenum": "duodenum",
    "body.stomach": "stomach",
    "body.ureter": "ureter",
    "body.bladder": "bladder",
    "body.kidney": "kidney",
    "body.adrenal": "adrenal",
    "body.liver": "liver",
    "body.gallbladder": "gallbladder",
    "body.bile duct": "bile duct",
    "body.pancreas": "pancreas",
    "body.spleen": "spleen",
    "body.diaphragm": "diaphragm",
    "body.pleura": "pleura",
    "body.lung": "lung",
    "body.heart": "heart",
    "body.aorta": "aorta",
    "body.nerve": "nerve",
    "body.phrenic nerve": "phrenic nerve",
    "body.spinal cord": "spinal cord",
    "body.joint": "joint",
    # planes
    "plane.axial": "Axial z = {at} mm",
    "plane.short": "{axis} {at}",
    "window": "L {level} / W {width}",
    "slab": "slab {slab} mm",
    "no_image": "no CT in this plane",
    "subtraction": "CT − baseline",
    "subtraction.none": "no baseline to subtract",
    "map": "Margin over the lesion",
    "map.least": "Least margin (uncertain)",
    "map.none": "no margin measured",
    "cold.title.sure": "PREDICTED {at}",
    "cold.title.unsure": "PREDICTED? {at}",
    "cold.title.old": "not predicted: CT too old",
    "cold.title.none": "no prediction",
    "cold.so_far": "coldest so far",
    "cold.by_then": "coldest by then",
    "cold.head.sure": "Predicted ({at}), never measured:",
    "cold.head.unsure": "Predicted ({at}), uncertain, never measured:",
    "cold.head.old": "Predicted cold: not shown, the CT is too old",
    "cold.lesion": "Lesion",
    "cold.line": "{body}: {share_20} once below −20 °C, {share_40} below −40 °C; spared most: {spared}",
    "cold.hold.20": "≤ −20 °C for {s} s",
    "cold.hold.40": "≤ −40 °C for {s} s",
    "cold.frozen": "frozen {n}×",
    "letter.R": "R",
    "letter.L": "L",
    "letter.A": "A",
    "letter.P": "P",
    "letter.S": "S",
    "letter.I": "I",
    "home": "Home: worst margin",
    # another time than now
    "look.back": "SCAN OF {clock} AGO — NOT NOW",
    "look.ahead": "FORECAST IN {clock} — NOT MEASURED",
    "look.back.short": "NOT NOW: −{clock}",
    "look.ahead.short": "FORECAST +{clock}",
    "look.figures": "lesion {lesion} · +{goal} mm {margin} · margin {mm}",
    "look.expected": "lesion {lesion} · margin {mm}",
    "look.unmeasured": "no measurement in this scan",
    "look.return": "End: now",
    "said.new_scan": "New scan: back to now",
    "strip.volume": "ice 0–{most} ml",
    "strip.coverage": "covered, %",
    "strip.margin": "margin, mm",
    "strip.freeze": "Freeze",
    "strip.thaw": "Thaw",
    # legend
    "legend.lesion": "lesion",
    "legend.margin": "+ {margin} mm",
    "legend.ice": "ice (CT)",
    "legend.predicted": "predicted:",
    "legend.edge": "ice",
    "legend.cold20": "−20 °C",
    "legend.cold40": "−40 °C",
    "legend.critical": "critical",
    "legend.needle": "needle",
    "legend.mark": "worst margin",
    "notice": "Research use only: a visual aid, not for diagnosis nor for decision alone. "
    "Not a medical device.",
    "keys": "H: keys",
    # the keys themselves
    "help.title": "Keys",
    "help.F": "start the freeze, or the next phase",
    "help.A": "acknowledge the alarm",
    "help.CC": "twice: clear a wrong-patient block",
    "help.QQ": "twice: end the procedure",
    "help.scroll": "move through the slices",
    "help.home": "to the worst margin",
    "help.look": "look back, or into the forecast",
    "help.end": "back to now",
    "help.zoom": "larger, smaller",
    "help.W": "window for ice, or the organ's",
    "help.S": "subtract the baseline",
    "help.T": "thickness of the slab",
    "help.V": "sagittal, margin map, 3-D (↑ ↓ turn it), predicted cold",
    "help.turn": "3-D: turn it over and under",
    "help.M": "simple or full screen layout",
    "help.F11": "full-screen window, or not",
    "solid": "3-D: as measured",
    "solid.least": "3-D: least ice likely",
    "solid.no_ice": "3-D: no ice measured",
    "help.L": "français",
    "key.pages": "PgUp PgDn, wheel",
    "key.home": "Home",
    "key.turn": "Shift ↑ ↓",
    "key.end": "End",
    # operator
    "ask.clear_block": "Press C again to clear the block: patient and plan have been checked",
    "ask.quit": "Press Q again to end the procedure and close",
    "said.phase_next": "Next phase requested",
    "said.acknowledge": "Alarm acknowledged",
    "said.clear_block": "Clearing of the block requested",
    "said.monitor_gone": "Monitor {number} is not there: shown on the main one",
}

_FR: dict[str, str] = {
    "cycle": "Cycle {cycle}",
    "phase.waiting": "NON COMMENCÉ",
    "phase.freeze": "CONGÉLATION",
    "phase.thaw": "DÉCONGÉLATION",
    "phase.ended": "TERMINÉ",
    "no_patient": "Aucun patient",
    "lesion_covered": "Lésion couverte (glace)",
    "margin_covered": "Lésion + {margin} mm",
    "min_margin": "Marge min. mesurée",
    "time_to_margin": "Lésion + {margin} mm couverte dans",
    "structure": "{name} ↔ glace",
    "structure_none": "Structure critique",
    "structure_none_value": "non définie",
    "no_ice": "pas de glace",
    "last_ct": "Dernier CT : {age}",
    "next_ct": "Prochain CT dans {clock}",
    "next_ct_now": "Prochain CT : maintenant",
    "next_ct_off": "Prochain CT : —",
    "next.image_age": "sinon CT trop ancien",
    "next.unmeasured": "dernier CT non évalué",
    "next.horizon": "rien à décider avant",
    "next.covered": "marge couverte ?",
    "next.perhaps_covered": "marge peut-être couverte ?",
    "next.limit": "{name} à sa limite ?",
    "next.then": "{decision} dans {clock}",
    "next.phase_end": "fin de phase",
    "simulation": "Prédit : {clock}",
    "ct.earlier": "CT précédent",
    "interval": "IC 90 % : {range}",
    "unsure": "mesure incertaine",
    "measured_ago": "mesuré il y a {age}",
    "reached": "atteint",
    "confirm": "CT de contrôle",
    "others": "+{count}",
    "alarm_over": "TERMINÉ, non acquitté : {sentence}",
    "state.no_core": "Le moniteur démarre",
    "state.waiting": "En attente du scanner",
    "state.waiting.hint": "pas encore de CT de référence",
    "state.waiting.received": "CT {id} reçu",
    "state.waiting.choose": "pas encore de référence : la choisir à la console",
    "state.waiting.unfit": "pas encore de référence : scanner la lésion avant de congeler",
    "state.baseline": "CT de référence {id} reçu",
    "state.baseline.no_plan": "pas encore de plan : rien n’est mesuré",
    "state.baseline.no_needles": "aucune sonde connue : la glace ne peut être mesurée",
    "state.baseline.start": "à suivre : démarrer la congélation (F)",
    "state.baseline.hint": "pas encore de glace mesurée",
    "state.invalid": "Pas de mesure",
    "state.blocked": "AFFICHAGE BLOQUÉ",
    "state.blocked.patient": "plan : {expected}\nCT : {received}",
    "state.blocked.hint": "Vérifier patient et plan. Pour débloquer : appuyer deux fois sur C.",
    "state.core_silent": "LE MONITEUR NE RÉPOND PLUS",
    "state.view_error": "ERREUR D'AFFICHAGE",
    "body.skin": "peau",
    "body.bowel": "intestin",
    "body.colon": "côlon",
    "body.duodenum": "duodénum",
    "body.stomach": "estomac",
    "body.ureter": "uretère",
    "body.bladder": "vessie",
    "body.kidney": "rein",
    "body.adrenal": "surrénale",
    "body.liver": "foie",
    "body.gallbladder": "vésicule biliaire",
    "body.bile duct": "voie biliaire",
    "body.pancreas": "pancréas",
    "body.spleen": "rate",
    "body.diaphragm": "diaphragme",
    "body.pleura": "plèvre",
    "body.lung": "poumon",
    "body.heart": "cœur",
    "body.aorta": "aorte",
    "body.nerve": "nerf",
    "body.phrenic nerve": "nerf phrénique",
    "body.spinal cord": "moelle épinière",
    "body.joint": "articulation",
    "plane.axial": "Axiale z = {at} mm",
    "plane.short": "{axis} {at}",
    "window": "L {level} / W {width}",
    "slab": "coupe {slab} mm",
    "no_image": "pas de CT dans ce plan",
    "subtraction": "CT − référence",
    "subtraction.none": "pas de référence à soustraire",
    "map": "Marge autour de la lésion",
    "map.least": "Marge la moindre (incertain)",
    "map.none": "marge non mesurée",
    "cold.title.sure": "PRÉDIT {at}",
    "cold.title.unsure": "PRÉDIT ? {at}",
    "cold.title.old": "pas de prédiction : CT ancien",
    "cold.title.none": "pas de prédiction",
    "cold.so_far": "minimum atteint",
    "cold.by_then": "minimum d’ici là",
    "cold.head.sure": "Prédit ({at}), jamais mesuré :",
    "cold.head.unsure": "Prédit ({at}), incertain, jamais mesuré :",
    "cold.head.old": "Froid prédit : non montré, CT trop ancien",
    "cold.lesion": "Lésion",
    "cold.line": "{body}\u00a0: {share_20} déjà sous −20 °C, {share_40} "
    "sous −40 °C\u00a0; le moins froid\u00a0: {spared}",
    "cold.hold.20": "≤ −20 °C {s} s",
    "cold.hold.40": "≤ −40 °C {s} s",
    "cold.frozen": "gelé {n}×",
    "letter.R": "D",
    "letter.L": "G",
    "letter.A": "A",
    "letter.P": "P",
    "letter.S": "S",
    "letter.I": "I",
    "home": "Début : pire marge",
    "look.back": "CT D’IL Y A {clock} — PAS MAINTENANT",
    "look.ahead": "PRÉVISION DANS {clock} — NON MESURÉ",
    "look.back.short": "PASSÉ : −{clock}",
    "look.ahead.short": "PRÉVISION +{clock}",
    "look.figures": "lésion {lesion} · +{goal} mm {margin} · marge {mm}",
    "look.expected": "lésion {lesion} · marge {mm}",
    "look.unmeasured": "pas de mesure dans ce CT",
    "look.return": "Fin : retour",
    "said.new_scan": "Nouveau CT : retour au présent",
    "strip.volume": "glace 0–{most} ml",
    "strip.coverage": "couvert, %",
    "strip.margin": "marge, mm",
    "strip.freeze": "Congélation",
    "strip.thaw": "Décongélation",
    "legend.lesion": "lésion",
    "legend.margin": "+ {margin} mm",
    "legend.ice": "glace (CT)",
    "legend.predicted": "prédit :",
    "legend.edge": "glace",
    "legend.cold20": "−20 °C",
    "legend.cold40": "−40 °C",
    "legend.critical": "critique",
    "legend.needle": "sonde",
    "legend.mark": "pire marge",
    "notice": "Recherche : aide visuelle, ni diagnostic ni décision seule. Pas un dispositif médical.",
    "keys": "H : touches",
    "help.title": "Touches",
    "help.F": "démarrer la congélation, ou phase suivante",
    "help.A": "acquitter l’alarme",
    "help.CC": "deux fois : débloquer (patient différent)",
    "help.QQ": "deux fois : terminer la procédure",
    "help.scroll": "parcourir les coupes",
    "help.home": "à la pire marge",
    "help.look": "regarder en arrière, ou la prévision",
    "help.end": "retour au présent",
    "help.zoom": "agrandir, réduire",
    "help.W": "fenêtre de la glace, ou de l’organe",
    "help.S": "soustraire la référence",
    "help.T": "épaisseur de coupe",
    "help.V": "sagittal, carte des marges, 3D (↑ ↓), froid prédit",
    "help.turn": "3D : basculer en avant, en arrière",
    "help.M": "affichage simple ou complet",
    "help.F11": "fenêtre en plein écran, ou non",
    "solid": "3D : mesures",
    "solid.least": "3D : glace, borne basse",
    "solid.no_ice": "3D : pas de mesure",
    "help.L": "English",
    "key.pages": "Pg préc. / suiv., molette",
    "key.home": "Début",
    "key.turn": "Maj ↑ ↓",
    "key.end": "Fin",
    "ask.clear_block": "Appuyer encore sur C pour débloquer : patient et plan ont été vérifiés",
    "ask.quit": "Appuyer encore sur Q pour terminer la procédure et fermer",
    "said.phase_next": "Phase suivante demandée",
    "said.acknowledge": "Alarme acquittée",
    "said.clear_block": "Déblocage demandé",
    "said.monitor_gone": "L’écran {number} n’est pas là : affiché sur l’écran principal",
}

TABLES: dict[str, dict[str, str]] = {
    "en": _EN
    | translations_alarms.ENGLISH
    | translations_console.ENGLISH
    | translations_refusals.ENGLISH
    | translations_files.ENGLISH
    | translations_replay.ENGLISH
    | translations_report.ENGLISH,
    "fr": _FR
    | translations_alarms.FRENCH
    | translations_console.FRENCH
    | translations_refusals.FRENCH
    | translations_files.FRENCH
    | translations_replay.FRENCH
    | translations_report.FRENCH,
}


def placeholders(sentence: str) -> set[str]:
    """The names a sentence has to be given."""
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def text(language: str, key: str, **params: str) -> str:
    """The sentence of ``key``; a missing parameter shows as "?", a missing key raises KeyError."""
    sentence = TABLES[language][key]
    return sentence.format_map({name: params.get(name, "?") for name in placeholders(sentence)})


def alarm_text(language: str, code: str, params: Mapping[str, str]) -> str:
    """The sentence of an alarm; a code without one is named in a generic sentence."""
    key = f"alarm.{code}"
    if key not in TABLES[language]:
        return text(language, "alarm.unknown", code=code)
    return text(language, key, **params)


def reason_text(language: str, code: str, english: str) -> str:
    """Why a result is not OK; the English sentence where the code is not known here."""
    key = f"reason.{code}"
    return text(language, key) if key in TABLES[language] else (english or code)


def body_name(language: str, name: str) -> str:
    """A structure's name as the case has it, or the language's own word for it."""
    return TABLES[language].get(f"body.{name.strip().lower()}", name)


def next_language(language: str) -> str:
    """The language after this one."""
    return LANGUAGES[(LANGUAGES.index(language) + 1) % len(LANGUAGES)]
