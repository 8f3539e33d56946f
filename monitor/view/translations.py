"""Every sentence of the screen, in English and French. No units or numbers but placeholders.

Keys: plain ones for the screen's own words, ``alarm.CODE`` for alarms (filled by the alarm's
params), ``reason.CODE`` for why a result is not OK, ``body.NAME`` for structures.
Invariant: both languages have the same keys and, for each key, the same placeholders.
"""

from __future__ import annotations

import string
from collections.abc import Mapping

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
    "simulation": "Simulation: {clock}",
    "simulation_off": "Simulation: —",
    "interval": "90 % interval: {range}",
    "unsure": "uncertain measurement",
    "measured_ago": "measured {age} ago",
    "reached": "reached",
    "confirm": "CT to confirm",
    "others": "+{count}",
    # states
    "state.no_core": "Waiting for the monitor",
    "state.waiting": "Waiting for the scanner",
    "state.waiting.hint": "no baseline scan yet",
    "state.baseline": "Baseline received",
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
    "plane.short": "{axis} = {at} mm",
    "window": "L {level} / W {width}",
    "slab": "slab {slab} mm",
    "no_image": "no CT in this plane",
    "letter.R": "R",
    "letter.L": "L",
    "letter.A": "A",
    "letter.P": "P",
    "letter.S": "S",
    "letter.I": "I",
    "home": "Home: worst margin",
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
    "keys": "F phase · A alarms · L langue · Q quit",
    # operator
    "ask.clear_block": "Press C again to clear the block: patient and plan have been checked",
    "ask.quit": "Press Q again to end the procedure and close",
    "said.phase_next": "Next phase requested",
    "said.acknowledge": "Alarms acknowledged",
    "said.clear_block": "Clearing of the block requested",
    # alarms
    "alarm.no_baseline": "NO BASELINE — scan before freezing",
    "alarm.image_stale": "OLD CT ({age}) — figures frozen, take a new scan",
    "alarm.image_time_wrong": "CT TIME IMPOSSIBLE — image age unknown, check the clocks",
    "alarm.patient_mismatch": "WRONG PATIENT: plan {expected} ≠ CT {received} — display blocked",
    "alarm.frame_of_reference_mismatch": "FRAME OF REFERENCE CHANGED: "
    "{expected} ≠ {received} — display blocked",
    "alarm.blocked": "WRONG PATIENT OR FRAME OF REFERENCE — display blocked",
    "alarm.structure_near": "ICE NEAR {name}: {distance_mm} mm, "
    "perhaps {at_least_mm} (limit {limit_mm} mm)",
    "alarm.structure_ahead": "FORECAST: ice may reach {name} in {minutes} min",
    "alarm.needle_failing": "A NEEDLE SEEMS TO HAVE STOPPED COOLING — check the needles",
    "alarm.will_not_be_covered": "FORECAST: lesion and margin will not be covered with these needles",
    "alarm.forecast_disagrees": "Measured and predicted ice disagree",
    "alarm.phase_ending": "Phase ends in {seconds} s",
    "alarm.adrenal_thaw": "ADRENAL THAW — blood pressure may surge",
    "alarm.segmentation_invalid": "NO VALID MEASUREMENT — {reason}",
    "alarm.segmentation_poor": "UNCERTAIN MEASUREMENT — {reason}",
    "alarm.needles_unknown": "NEEDLES UNKNOWN — ice cannot be measured",
    "alarm.margin_reached": "Lesion + {margin_mm} mm covered by measured ice",
    "alarm.clock_offset": "Scanner clock differs by {seconds} s",
    "alarm.core_silent": "MONITOR NOT RESPONDING — figures frozen, do not rely on them",
    "alarm.core_fault": "MONITOR FAULT — {error}",
    "alarm.intake_dead": "IMAGE RECEPTION STOPPED — no scan can arrive",
    "alarm.record_failing": "RECORD FAILING — check disk space",
    "alarm.view_error": "DISPLAY ERROR ({error}) — do not rely on this screen",
    "alarm.unknown": "ALARM: {code}",
    # reasons
    "reason.unknown": "reason not given",
    "reason.baseline": "this scan is the baseline: no ice to measure yet",
    "reason.needles_unknown": "no needle is known",
    "reason.scan_elsewhere": "scan and baseline share no tissue around the lesion",
    "reason.needle_outside_scan": "a needle tip lies outside the scan or the baseline",
    "reason.baseline_mismatch": "scan and baseline do not match: motion or contrast",
    "reason.ice_leaves_scan": "the ice reaches the end of the scan",
    "reason.edge_hidden": "much of the ice edge lies where ice hardly shows",
    "reason.margin_uncertain": "ice edge uncertain where the margin is smallest",
    "reason.registration_doubtful": "the scan matches the baseline poorly",
    "reason.registration_failed": "the scan cannot be matched to the baseline",
    "reason.needle_moved": "a needle has moved against the tissue",
    "reason.needle_not_found": "a needle was not found in the scan",
    "reason.needle_gone": "a needle of the baseline is not in the scan",
    "reason.ice_would_not_show": "no ice seen, but it would hardly show here",
    "reason.missing_slices": "slices are missing",
    "reason.slices_apart": "not all tissue was imaged between the slices",
    "reason.baseline_frozen": "the baseline may already hold ice",
    "reason.variable_slice_gap": "slices lie unevenly",
    "reason.acquisition_time_missing": "the images do not say when they were taken",
    "reason.edge_uncertain": "ice edge uncertain, check the CT itself",
    "reason.lesion_outside_scan": "part of the lesion was not scanned",
    "reason.margin_outside_scan": "part of the margin was not scanned",
    "reason.needle_failing": "a needle seems to have stopped cooling",
    "reason.will_not_be_covered": "these needles will not cover lesion and margin",
    "reason.forecast_disagrees": "measured and predicted ice disagree",
    "reason.no_ice_measured": "no scan of the ice yet: by physics alone",
    "reason.scan_old": "the scan that this runs on from is old",
    "reason.clock_offset": "scanner clock differs",
    "reason.plan_in_other_frame": "the plan was drawn in another frame of reference",
    "reason.patient_unidentified": "the case names no patient",
    "reason.series_uid_missing": "the images name no series",
    "reason.incomplete": "the scan is incomplete",
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
    "simulation": "Simulation : {clock}",
    "simulation_off": "Simulation : —",
    "interval": "IC 90 % : {range}",
    "unsure": "mesure incertaine",
    "measured_ago": "mesuré il y a {age}",
    "reached": "atteint",
    "confirm": "CT de contrôle",
    "others": "+{count}",
    "state.no_core": "En attente du moniteur",
    "state.waiting": "En attente du scanner",
    "state.waiting.hint": "pas encore de CT de référence",
    "state.baseline": "CT de référence reçu",
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
    "plane.short": "{axis} = {at} mm",
    "window": "L {level} / W {width}",
    "slab": "coupe {slab} mm",
    "no_image": "pas de CT dans ce plan",
    "letter.R": "D",
    "letter.L": "G",
    "letter.A": "A",
    "letter.P": "P",
    "letter.S": "S",
    "letter.I": "I",
    "home": "Début : pire marge",
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
    "notice": "Logiciel de recherche : aide visuelle, non destiné au diagnostic ni à la décision "
    "seule. Pas un dispositif médical.",
    "keys": "F phase · A alarmes · L language · Q fin",
    "ask.clear_block": "Appuyer encore sur C pour débloquer : patient et plan ont été vérifiés",
    "ask.quit": "Appuyer encore sur Q pour terminer la procédure et fermer",
    "said.phase_next": "Phase suivante demandée",
    "said.acknowledge": "Alarmes acquittées",
    "said.clear_block": "Déblocage demandé",
    "alarm.no_baseline": "PAS DE CT DE RÉFÉRENCE — acquérir avant de congeler",
    "alarm.image_stale": "CT ANCIEN ({age}) — chiffres figés, refaire une acquisition",
    "alarm.image_time_wrong": "HEURE DU CT IMPOSSIBLE — âge inconnu, vérifier les horloges",
    "alarm.patient_mismatch": "PATIENT DIFFÉRENT : plan {expected} ≠ CT {received} "
    "— affichage bloqué",
    "alarm.frame_of_reference_mismatch": "REPÈRE SPATIAL CHANGÉ : {expected} ≠ {received} "
    "— affichage bloqué",
    "alarm.blocked": "PATIENT OU REPÈRE SPATIAL DIFFÉRENT — affichage bloqué",
    "alarm.structure_near": "GLACE PROCHE — {name} : {distance_mm} mm, "
    "peut-être {at_least_mm} (limite {limit_mm} mm)",
    "alarm.structure_ahead": "PRÉVISION : la glace peut atteindre {name} dans {minutes} min",
    "alarm.needle_failing": "UNE SONDE SEMBLE NE PLUS REFROIDIR — vérifier les sondes",
    "alarm.will_not_be_covered": "PRÉVISION : lésion et marge ne seront pas couvertes avec ces sondes",
    "alarm.forecast_disagrees": "Glace mesurée et glace prédite ne concordent pas",
    "alarm.phase_ending": "Fin de phase dans {seconds} s",
    "alarm.adrenal_thaw": "DÉGEL SURRÉNALIEN — risque de poussée hypertensive",
    "alarm.segmentation_invalid": "PAS DE MESURE VALABLE — {reason}",
    "alarm.segmentation_poor": "MESURE INCERTAINE — {reason}",
    "alarm.needles_unknown": "SONDES INCONNUES — la glace ne peut être mesurée",
    "alarm.margin_reached": "Lésion + {margin_mm} mm couverte par la glace mesurée",
    "alarm.clock_offset": "Horloge du scanner décalée de {seconds} s",
    "alarm.core_silent": "LE MONITEUR NE RÉPOND PLUS — chiffres figés, ne pas s'y fier",
    "alarm.core_fault": "PANNE DU MONITEUR — {error}",
    "alarm.intake_dead": "RÉCEPTION DES IMAGES ARRÊTÉE — aucun CT ne peut arriver",
    "alarm.record_failing": "ENREGISTREMENT EN ÉCHEC — vérifier l'espace disque",
    "alarm.view_error": "ERREUR D'AFFICHAGE ({error}) — ne pas se fier à cet écran",
    "alarm.unknown": "ALARME : {code}",
    "reason.unknown": "raison non précisée",
    "reason.baseline": "CT de référence : pas encore de glace à mesurer",
    "reason.needles_unknown": "aucune sonde connue",
    "reason.scan_elsewhere": "CT et référence ne se recouvrent pas autour de la lésion",
    "reason.needle_outside_scan": "pointe d'une sonde hors du CT ou de la référence",
    "reason.baseline_mismatch": "CT et référence différents : mouvement ou contraste",
    "reason.ice_leaves_scan": "la glace atteint le bord du CT",
    "reason.edge_hidden": "bord de la glace en grande partie invisible",
    "reason.margin_uncertain": "bord de la glace incertain à la marge minimale",
    "reason.registration_doubtful": "CT mal recalé sur la référence",
    "reason.registration_failed": "CT impossible à recaler sur la référence",
    "reason.needle_moved": "une aiguille a bougé dans le tissu",
    "reason.needle_not_found": "une aiguille n'a pas été trouvée dans l'image",
    "reason.needle_gone": "une aiguille de la référence manque dans l'image",
    "reason.ice_would_not_show": "pas de glace vue, mais elle se verrait à peine ici",
    "reason.missing_slices": "des coupes manquent",
    "reason.slices_apart": "tissu non imagé entre les coupes",
    "reason.baseline_frozen": "la référence contient peut-être déjà de la glace",
    "reason.variable_slice_gap": "coupes irrégulièrement espacées",
    "reason.acquisition_time_missing": "les images ne disent pas quand elles ont été prises",
    "reason.edge_uncertain": "bord de la glace incertain, vérifier le CT brut",
    "reason.lesion_outside_scan": "une partie de la lésion n'a pas été scannée",
    "reason.margin_outside_scan": "une partie de la marge n'a pas été scannée",
    "reason.needle_failing": "une sonde semble ne plus refroidir",
    "reason.will_not_be_covered": "ces sondes ne couvriront pas lésion et marge",
    "reason.forecast_disagrees": "glace mesurée et glace prédite ne concordent pas",
    "reason.no_ice_measured": "pas encore d'acquisition de la glace : par la physique seule",
    "reason.scan_old": "l'acquisition dont part ce calcul est ancienne",
    "reason.clock_offset": "horloge du scanner décalée",
    "reason.plan_in_other_frame": "le plan vient d’un autre repère",
    "reason.patient_unidentified": "aucun patient indiqué",
    "reason.series_uid_missing": "les images ne nomment aucune série",
    "reason.incomplete": "CT incomplet",
}

TABLES: dict[str, dict[str, str]] = {"en": _EN, "fr": _FR}


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
