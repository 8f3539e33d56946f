"""Colours by name, as sRGB hex. Contours: near Okabe and Ito's, moved until every two of them are at
least 20 apart (CIEDE2000) for usual and for colour-blind eyes; red, yellow and cyan belong to alarms and
frames alone. Design units elsewhere: 1 du = 1 px at 1080p.

Invariant: nothing in this table means "good"; no state of the screen is shown by colour alone.
"""

from __future__ import annotations

COLOURS: dict[str, str] = {
    "window": "#08090A",
    "panel": "#15181B",
    "pane": "#000000",
    "rule": "#2A2F34",
    "text": "#E8E8E8",
    "label": "#B8B8B8",
    "dim": "#8C9196",
    "old": "#888888",
    "casing": "#000000",
    "lesion": "#EDD529",
    "ice": "#5EBDF1",
    "cold20": "#258573",
    "cold40": "#974EB8",
    "critical": "#D45E01",
    "needle": "#FFFFFF",
    # Another time than now; and the part of the time strip in which a freeze runs.
    "look": "#E8E8E8",
    "look_text": "#101010",
    "freeze": "#20313C",
    "mark": "#FFFFFF",
    # Not live: the ground and the border of all that is played from a record.
    "replay": "#5A2CA0",
    "replay_text": "#FFFFFF",
    "alarm_high": "#D40000",
    "alarm_high_text": "#FFFFFF",
    "alarm_high_dark": "#FF5A5A",
    "alarm_medium": "#FFD500",
    "alarm_medium_text": "#101010",
    "alarm_low": "#00D5E0",
}
