"""The report as files: one self-contained HTML page, and a PDF on A4 by Qt. Points, pixels.

Invariant: whatever comes from a record is escaped; a file with the wanted name is whole.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from PyQt5.QtCore import QMarginsF, QRectF, QSizeF, QUrl
from PyQt5.QtGui import (
    QColor,
    QFont,
    QImage,
    QPageLayout,
    QPageSize,
    QPainter,
    QPdfWriter,
    QTextDocument,
)

from monitor.report.content import Content
from monitor.report.paging import kept_together
from monitor.report.pictures import png
from monitor.view import style
from monitor.view.qt import Qt
from monitor.view.translations import text

# A4 lying down: the table of the scans is wide.
_PAGE_PT, _MARGIN_PT, _FOOT_PT = (842.0, 595.0), 34.0, 26.0
_DPI = 150
# Units of the layout: a picture and its caption fill a page.
_WIDTHS = {"timeline": 900}
_SCAN_WIDTH = 1030


@dataclass(frozen=True)
class _Image:
    src: str
    width: int


def html(c: Content, images: Mapping[str, QImage]) -> str:
    """``images`` by volume id, ``timeline``, and ``legend`` of the others if there are any."""
    inline = {
        name: _Image(f"data:image/png;base64,{base64.b64encode(png(image)).decode()}", 1160)
        for name, image in images.items()
    }
    return _rendered(c, inline, "15px", False)


def write_html(path: Path, c: Content, images: Mapping[str, QImage]) -> None:
    """Raises ``OSError``."""
    part = path.with_name(path.name + ".part")
    part.write_text(html(c, images), encoding="utf-8")
    os.replace(part, path)


def write_pdf(path: Path, c: Content, images: Mapping[str, QImage]) -> None:
    """Needs a ``QGuiApplication``. Raises ``OSError``."""
    part = path.with_name(path.name + ".part")
    part.open("wb").close()
    writer = QPdfWriter(str(part))
    writer.setResolution(_DPI)
    writer.setTitle(c.words["title"])
    writer.setCreator("iceball-monitor")
    layout = QPageLayout(QPageSize(QPageSize.A4), QPageLayout.Landscape, QMarginsF(0, 0, 0, 0))
    writer.setPageLayout(layout)
    document = _document(c, images)
    _print(document, writer, c)
    if part.stat().st_size == 0:
        raise OSError(f"{path}: the PDF could not be written")
    os.replace(part, path)


def _rendered(c: Content, images: Mapping[str, _Image], size: str, paged: bool) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("monitor.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    family = style.font(12.0, False).family()
    template = environment.get_template("report.html.j2")
    return template.render(c=c, images=images, size=size, paged=paged, family=family)


def _document(c: Content, images: Mapping[str, QImage]) -> QTextDocument:
    named = {n: _Image(f"picture:{n}", _WIDTHS.get(n, _SCAN_WIDTH)) for n in images}
    pictures = {named[name].src: image for name, image in images.items()}
    return kept_together(_rendered(c, named, "9pt", True), lambda html: _laid_out(html, pictures))


def _laid_out(html: str, pictures: Mapping[str, QImage]) -> QTextDocument:
    document: Any = QTextDocument()
    for src, image in pictures.items():
        document.addResource(document.ImageResource, QUrl(src), image)
    font = QFont(style.font(12.0, False).family())
    font.setPointSizeF(9.0)
    document.setDefaultFont(font)
    document.setDocumentMargin(0.0)
    document.setHtml(html)
    width, height = _PAGE_PT[0] - 2 * _MARGIN_PT, _PAGE_PT[1] - 2 * _MARGIN_PT - _FOOT_PT
    # Laid out in points of 1/72 inch at Qt's 96 a screen: what is 9pt there is 12 units here.
    document.setPageSize(QSizeF(width * _UNITS, height * _UNITS))
    return document


# Units of the layout to a point.
_UNITS = 96.0 / 72.0


def _print(document: QTextDocument, writer: QPdfWriter, c: Content) -> None:
    painter = QPainter(writer)
    scale = _DPI / 96.0
    page = document.pageSize()
    margin, pages = _MARGIN_PT * _UNITS, document.pageCount()
    for n in range(pages):
        if n:
            writer.newPage()
        painter.save()
        painter.scale(scale, scale)
        painter.translate(margin, margin - n * page.height())
        document.drawContents(painter, QRectF(0, n * page.height(), page.width(), page.height()))
        painter.restore()
        painter.save()
        painter.scale(scale, scale)
        _foot(painter, QRectF(margin, margin + page.height(), page.width(), 30.0), c, n + 1, pages)
        painter.restore()
    painter.end()


def _foot(painter: QPainter, box: QRectF, c: Content, page: int, pages: int) -> None:
    """The sentence on every page: pages get parted."""
    font = QFont(style.font(12.0, False).family())
    font.setPixelSize(10)
    painter.setFont(font)
    painter.setPen(QColor("#50565c"))
    painter.drawText(box, int(Qt.AlignLeft | Qt.AlignBottom), c.words["notice"])
    number = text(c.language, "report.page", page=str(page), pages=str(pages))
    painter.drawText(box, int(Qt.AlignRight | Qt.AlignBottom), number)
