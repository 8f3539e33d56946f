"""Where the pages of a report part: not between a heading and what it is of. Units of the layout.

Invariant: a section that fits on a page is on one; of a longer one the heading is with its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from PyQt5.QtGui import QTextBlock, QTextDocument

# Of a section that is longer than a page: so much of it goes with its heading.
_BEGINNING = 140.0
_HEADING = re.compile(r"<h[123](?=[ >])")


def kept_together(html: str, laid_out: Callable[[str], QTextDocument]) -> QTextDocument:
    """The document, with a new page before each heading whose section the end of a page would part. It is
    laid out anew for each: Qt does not do that reliably with one that has been changed."""
    document, after = laid_out(html), 0
    while (parted := _first_parted(document, after)) is not None:
        html = _broken_before(html, parted)
        document, after = laid_out(html), parted + 1
    return document


def _broken_before(html: str, number: int) -> str:
    """With the heading of that number, from 0, on a new page."""
    at = list(_HEADING.finditer(html))[number].end()
    return f'{html[:at]} style="page-break-before: always"{html[at:]}'


def _first_parted(document: QTextDocument, after: int) -> int | None:
    for number, heading in enumerate(_headings(document)):
        if number >= after and _parted(document, heading):
            return number
    return None


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
