"""What stands in a plane's corner: which plane, and how it is shown. mm, HU.

Invariant: a picture that is not simply the scan (a difference, a thicker slab, none at all) says so.
"""

from __future__ import annotations

from monitor.view import formats
from monitor.view.planes import Plane, Point
from monitor.view.scene import Scene
from monitor.view.translations import text


def captions(
    scene: Scene,
    plane: Plane,
    main: bool,
    cursor: Point,
    slab_mm: float | None,
    subtracted: bool,
    language: str,
) -> list[str]:
    """A line each; ``slab_mm`` None: the scan has no picture there. Only the main pane tells all."""
    s = scene.snapshot
    at = formats.decimal(cursor[plane.across], 1, language)
    key = f"plane.{plane.name}" if main else "plane.short"
    said = [text(language, key, axis="xyz"[plane.across], at=at)]
    if main and s is not None:
        level, width = (
            formats.decimal(v, 0, language) for v in scene.views.window_hu(s.window_hu, subtracted)
        )
        said.append(text(language, "window", level=level, width=width) + _slab(slab_mm, language))
        if scene.views.subtraction:
            said.append(text(language, "subtraction" if subtracted else "subtraction.none"))
        if scene.chosen is not None and scene.worst() is not None:
            said.append(text(language, "home"))
    if slab_mm is None and s is not None and s.volume is not None:
        said.append(text(language, "no_image"))
    return said


def _slab(slab_mm: float | None, language: str) -> str:
    if slab_mm is None:
        return ""
    return " · " + text(language, "slab", slab=formats.decimal(slab_mm, 0, language))
