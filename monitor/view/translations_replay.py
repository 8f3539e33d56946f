"""What the screens say while a record is played, in both languages. As ``translations``.

Invariant: both languages have the same keys and, for each key, the same placeholders.
"""

from __future__ import annotations

ENGLISH: dict[str, str] = {
    "replay.title": "REPLAY — NOT LIVE",
    "replay.of": "record of {date} {time} UTC",
    "replay.short": "REPLAY {date}",
    "replay.prefix": "REPLAY",
    "replay.console": "{title} · {playing} · {patient}",
    "replay.paused": "paused",
    "replay.working": "working out what follows …",
    "replay.broken": "the record goes on, but cannot be worked out",
    "replay.refused": "A replay: the record of a procedure cannot be changed",
    "replay.ask.quit": "Press Q again to end the replay",
    "help.replay.space": "pause the replay, go on",
    "help.replay.step": "to what came next, or before",
    "help.replay.scan": "next CT, previous CT, CT 1 to 9",
    "help.replay.pace": "slower, faster",
    "help.replay.QQ": "twice: end the replay",
    "key.space": "Space",
    "key.step": "Enter, Backspace",
    "key.scan": "N, B, 1–9",
}

FRENCH: dict[str, str] = {
    "replay.title": "RELECTURE — PAS EN DIRECT",
    "replay.of": "enregistré le {date} {time} UTC",
    "replay.short": "RELECTURE {date}",
    "replay.prefix": "RELECTURE",
    "replay.console": "{title} · {playing} · {patient}",
    "replay.paused": "en pause",
    "replay.working": "calcul de la suite…",
    "replay.broken": "la suite de l’enregistrement ne peut pas être recalculée",
    "replay.refused": "Relecture : l’enregistrement d’une procédure ne se modifie pas",
    "replay.ask.quit": "Appuyer encore sur Q pour terminer la relecture",
    "help.replay.space": "mettre en pause, reprendre",
    "help.replay.step": "à ce qui suit, à ce qui précède",
    "help.replay.scan": "CT suivant, précédent, CT 1 à 9",
    "help.replay.pace": "plus lent, plus rapide",
    "help.replay.QQ": "deux fois : terminer la relecture",
    "key.space": "Espace",
    "key.step": "Entrée, Retour arrière",
    "key.scan": "N, B, 1–9",
}
