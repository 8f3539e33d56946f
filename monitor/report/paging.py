"""Where the pages of a report part: not between a heading and what it is of. Units of the layout.

Invariant: a section that fits on a page is on one; of a longer one the heading is with its beginning.
"""

from __future__ import annotations

from typing import Any

from PyQt5.QtGui import QTextBlock, QTextCursor, QTextDocument, QTextFormat

# Of a section that is longer than a page: so much of it goes with its heading.
_BEGINNING = 140.0


def keep_together(document: QTextDocument) -> None:
    """Begins a new page before each heading whose section the end of a page would part."""
    for heading in _headings(document):
        if _parted(document, heading):
            cursor = QTextCursor(heading)
            wanted = heading.blockFormat()
            wanted.setPageBreakPolicy(QTextFormat.PageBreak_AlwaysBefore)
            cursor.setBlockFormat(wanted)  # which lays out what follows anew


def _headings(document: QTextDocument) -> list[QTextBlock]:
    found, block = [], document.begin()
    while block.isValid():
        if _level(block):
            found.append(block)
        block = block.next()
    return found


def _level(block: QTextBlock) -> int:
    return int(block.blockFormat().headingLevel())


def _parted(document: QTextDocument, heading: QTextBlock) -> bool:
    layout: Any = document.documentLayout()
    height = document.pageSize().height()
    top = bottom = layout.blockBoundingRect(heading).top()
    block = heading
    while block.isValid() and (block == heading or not _level(block)):
        bottom = max(bottom, layout.blockBoundingRect(block).bottom())
        block = block.next()
    if bottom - top > height:
        bottom = top + _BEGINNING
    return int(top // height) != int((bottom - 1.0) // height)
