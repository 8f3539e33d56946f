"""The DICOM standard as dicom-validator reads it, without its download.

dicom-validator makes its tables from the standard's docbook, which is in no package index. The
package dicom-standard brings the same tables of PS3.3 (of 2020) as JSON, with the sentences that
hold the conditions and the allowed values as HTML. Here those sentences go through dicom-validator's
own parsers: the packaging is ours, the interpretation is not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dicom_validator.spec_reader.condition import Condition, ConditionType
from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.enum_parser import EnumParser
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import NullValidationResultHandler
from dicom_validator.validator.iod_validator import IODValidator
from dicom_validator.validator.validation_result import DicomTag, Status
from lxml import etree, html
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

Json = dict[str, Any]
_FUNCTIONAL_GROUPS = ("(5200,9229)", "(5200,9230)")


def dicom_info(sop_classes: Collection[str]) -> DicomInfo:
    """The tables of these SOP classes alone: what is not asked for need not be parsed."""
    names = {s["id"]: s["ciod"] for s in _read("sops")}
    ids = {c["name"]: c["id"] for c in _read("ciods")}
    ciods = {uid: ids[names[uid]] for uid in sop_classes}
    sentences = _Sentences()
    modules, macros = (_Part.read(kind, set(ciods.values())) for kind in ("module", "macro"))
    iods = {
        uid: {
            "title": names[uid],
            "modules": modules.uses(ciod, sentences),
            "group_macros": macros.uses(ciod, sentences),
        }
        for uid, ciod in ciods.items()
    }
    tables = modules.tables(sentences) | macros.tables(sentences)
    return DicomInfo(sentences.dictionary, iods, tables)


def errors(dataset: Dataset, info: DicomInfo) -> set[str]:
    """What dicom-validator has against it: "IOD, Module: Sequence/Attribute Kind"."""
    result = IODValidator(dataset, info, error_handler=NullValidationResultHandler()).validate()
    if result.status not in (Status.Passed, Status.Failed):
        raise ValueError(f"not validated: {result.status.name}")
    title = info.iods[result.sop_class_uid]["title"]
    return {
        f"{title}, {module}: {_path(tag)} {error.code.name}"
        for module, found in result.module_errors.items()
        for tag, error in found.items()
    }


def _path(tag: DicomTag) -> str:
    return "/".join(keyword_for_tag(t) or str(t) for t in [*(tag.parents or []), tag.tag])


def _read(name: str) -> Any:
    """One file of dicom-standard, which installs them under sys.prefix and not in its package."""
    for file in metadata.files("dicom-standard") or []:
        if file.name == f"{name}.json":
            return json.loads(Path(str(file.locate())).read_text(encoding="utf-8"))
    raise FileNotFoundError(f"this dicom-standard has no {name}.json")


@dataclass(frozen=True)
class _Part:
    """What IODs are made of: their modules, or the macros of their functional groups."""

    kind: str
    used: list[Json]
    names: dict[str, str]
    attributes: list[Json]

    @classmethod
    def read(cls, kind: str, ciods: Collection[str]) -> _Part:
        relation = {"module": "ciod_to_modules", "macro": "ciod_to_fg_macros"}[kind]
        used = [row for row in _read(relation) if row["ciodId"] in ciods]
        ids = {row[f"{kind}Id"] for row in used}
        names = {row["id"]: row["name"] for row in _read(f"{kind}s")}
        rows = [row for row in _read(f"{kind}_to_attributes") if row[f"{kind}Id"] in ids]
        return cls(kind, used, names, rows)

    def uses(self, ciod: str, sentences: _Sentences) -> Json:
        """What an IOD is made of, by name, and when it has it."""
        return {
            self.names[row[f"{self.kind}Id"]]: {
                "ref": self._ref(row),
                **sentences.usage(row["usage"], row["conditionalStatement"]),
            }
            for row in self.used
            if row["ciodId"] == ciod
        }

    def tables(self, sentences: _Sentences) -> dict[str, Json]:
        """The attributes of each, those of a sequence's items in the sequence."""
        tables: dict[str, Json] = {self._ref(row): {} for row in self.used}
        for row in self.attributes:
            table = tables[self._ref(row)]
            for sequence in _sequences(row["path"]):
                table = table[sequence].setdefault("items", {})
            table[row["tag"]] = sentences.attribute(row)
            if row["tag"] in _FUNCTIONAL_GROUPS:
                # "Include one or more Functional Group Macros": the JSON has no such row.
                table[row["tag"]]["items"] = {"include": [{"ref": "FuncGroup"}]}
        return tables

    def _ref(self, row: Json) -> str:
        """What a table is found by: a macro and a module may share an id ("segmentation")."""
        return f"{self.kind} {row[f'{self.kind}Id']}"


def _sequences(path: str) -> list[str]:
    """The sequences around an attribute, outermost first."""
    module, *tags = path.split(":")
    if module == "rt-roi-observations" and tags[0] in ("00082218", "00082228"):
        # The row that includes these two into RT ROI Observations Sequence lost its ">", so that
        # they, and what follows them, stand one level too high.
        of_code = len(tags) == 1 or tags[1].startswith("0008")
        tags = ["30060080", *(tags if of_code else tags[1:])]
    return [f"({tag[:4]},{tag[4:]})".upper() for tag in tags[:-1]]


class _Sentences:
    """The standard's prose, read by dicom-validator's parsers."""

    def __init__(self) -> None:
        self.dictionary = {
            a["tag"]: {
                "name": a["name"],
                "vr": a["valueRepresentation"],
                "vm": a["valueMultiplicity"],
                "prop": "RET" if a["retired"] == "Y" else "",
            }
            for a in _read("attributes")
        }
        self._sections: dict[str, str] = _read("references")
        self._conditions = ConditionParser(self.dictionary)
        self._enums = EnumParser(self._section, self._conditions)
        self._known: dict[tuple[str, ...], Json] = {}

    def usage(self, usage: str, statement: str | None) -> Json:
        """When an IOD has a module: "C - Required if …", as Part 3 has it in one cell."""
        if not statement:
            return {"use": usage}
        use = f"{usage} - {statement}"
        return {"use": use, "cond": self._conditions.parse(use).result_dict()}

    def attribute(self, row: Json) -> Json:
        """Type, condition and allowed values. Macros repeat a few hundred sentences thousands of
        times: each is parsed once."""
        key = (row["tag"], row["type"], row["description"])
        if key not in self._known:
            self._known[key] = dict(self._described(row))
        return dict(self._known[key])

    def _described(self, row: Json) -> Iterator[tuple[str, Any]]:
        # Attributes of repeating groups, (60xx,eeee), are in no dictionary here.
        known = self.dictionary.get(row["tag"], {"name": row["tag"], "vr": ""})
        cell = html.fromstring(row["description"])
        yield "name", known["name"]
        yield "type", row["type"]
        if row["type"] in ("1C", "2C", "3"):  # 3 too: a condition may forbid
            condition = self._conditions.parse(" ".join(" ".join(cell.itertext()).split()))
            if condition.type != ConditionType.UserDefined:
                yield "cond", condition.result_dict()
        values = self._enums.parse(_docbook(cell, row["externalReferences"]), known["vr"])
        # A list may say which attribute it is for; a linked section may have those of others.
        own = [_plain(v) for v in values if v.get("tag", row["tag"]) == row["tag"]]
        if own:
            yield "enums", own

    def _section(self, url: str) -> Any:
        return _docbook(html.fromstring(self._sections[url]), []) if url in self._sections else None


def _plain(values: Json) -> Json:
    """As in dicom-validator's cache, which is what its validator expects."""
    return {k: v.result_dict() if isinstance(v, Condition) else v for k, v in values.items()}


def _docbook(block: Any, links: list[Json]) -> Any:
    """What EnumParser looks for in a block of HTML: lists of values, and links to sections that may
    have some. Anchors lost their targets on the way to the JSON, which has these in order."""
    node = etree.Element(EnumParser.docbook_ns + "td")
    for division in block.findall("div"):
        title = division.find("p/strong")
        if title is not None:
            values = _add(node, "variablelist")
            _add(values, "title").text = title.text
            for term in division.findall("dl/dt"):
                _add(_add(values, "varlistentry"), "term").text = term.text_content().strip()
    anchors = [span for span in block.iter("span") if "href" in span.attrib]
    for anchor, link in zip(anchors, links, strict=False):
        if anchor.getparent().getparent() is block:  # not those in notes
            _add(_add(node, "para"), "xref").set("linkend", f"sect_{link['sourceUrl']}")
    return node


def _add(parent: Any, name: str) -> Any:
    return etree.SubElement(parent, EnumParser.docbook_ns + name)
