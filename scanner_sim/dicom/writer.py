"""What the scanner writes: CT images, scouts and dose pages, in one maker's habits. LPS mm, HU.

Times are seconds from the baseline scan. Invariant: the same procedure, epoch and profile give the
same bytes; every image of the procedure shares one study and one frame of reference, and lies where
its ``Geometry`` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from scanner_sim.dicom import pixels
from scanner_sim.dicom.profiles import Profile
from scanner_sim.dicom.study import BODY_PARTS, PAIRED, Procedure, Study, cut, stamp
from scanner_sim.images import Acquisition, Geometry, Image, Technique
from scanner_sim.scenario import ScenarioError

_RECONSTRUCTION_S = 0.08  # one image after the other, about a dozen a second
_DOSE_PAGE_ROWS_COLUMNS = (512, 512)
_SCOUT_THICKNESS_MM = 0.6
_PLANNING = -1  # the number of a scan that nobody sends
SeriesPer = Literal["per_scan", "single"]


class Writer:
    """Writes one procedure's objects. ``series``: a series for each scan, or one for all that have
    a kernel in common (default: the maker's habit); ``syntax``: a key of ``pixels.SYNTAXES``;
    ``zone``: of the room's clock (see ``Study``)."""

    def __init__(
        self,
        procedure: Procedure,
        profile: Profile,
        epoch_utc_s: float,
        *,
        zone: tzinfo = UTC,
        series: SeriesPer | None = None,
        syntax: str = "explicit",
    ) -> None:
        pixels.syntax(syntax)
        self._series: SeriesPer = series or profile.series
        habits = f"{profile.name} {self._series}"
        self.study, self.profile = Study(procedure, epoch_utc_s, zone, habits), profile
        self._syntax = syntax

    def slices(self, acquisition: Acquisition) -> Iterator[Dataset]:
        """One series after the other, each in the order of its InstanceNumber. The frames of a
        fluoroscopy share a series."""
        for index, images in enumerate(_by_kernel(acquisition)):
            total = sum(len(image.hu) for image in images)
            before = 0
            for image in images:
                for place, k in enumerate(self._order(image)):
                    yield self._slice(acquisition, index, image, k, place, (before, total))
                    before += 1

    def planning(self, image: Image) -> list[Dataset]:
        """The slices on which the procedure was planned, a series of its own that is never sent: what
        the plan refers to."""
        return list(self.slices(Acquisition(_PLANNING, "volume", image.time_s, (image,))))

    def scout(
        self, hu: npt.NDArray[np.int16], geometry: Geometry, technique: Technique, time_s: float
    ) -> Dataset:
        """A projection (row, column) that lies in the patient as ``geometry`` says, in a series of
        its own; it is CT Image Storage and nothing but ImageType tells it from a slice."""
        d = self._ct("scout", "scout", time_s)
        d.SeriesNumber, d.AcquisitionNumber, d.InstanceNumber = self._first - 1, 0, 1
        self._describe(d, "scout", "scout", 0, time_s)
        stamp(d, "Acquisition", self.study.when(time_s), self.profile.times["acquisition"])
        stamp(d, "Content", self.study.when(time_s), self.profile.times["content"])
        self._technique(d, technique)
        d.SliceThickness = self.profile.decimal(_SCOUT_THICKNESS_MM)
        self._place(d, geometry, 0, hu.shape)
        d.GantryDetectorTilt = self.profile.decimal(0.0)
        pixels.put_ct(d, hu, self.profile, round_field=False)
        d.RescaleType = "US"  # unspecified: a projection is not in HU (PS3.3 C.11.1.1.2)
        return pixels.encode(d, self._syntax)

    def dose_page(self, lines: Sequence[str], time_s: float) -> Dataset:
        """A picture of text, Secondary Capture that says Modality CT, in a series of its own."""
        d = self.study.new(SecondaryCaptureImageStorage, "dose", time_s)
        del d.FrameOfReferenceUID, d.PositionReferenceIndicator
        d.SeriesInstanceUID = self.study.uid("series", "dose")
        self._equipment(d)
        d.ConversionType, d.BurnedInAnnotation = "WSD", "YES"
        d.SeriesNumber, d.InstanceNumber, d.PatientOrientation = 999, 1, ""
        self._describe(d, "dose", "dose", 0, time_s)
        stamp(d, "Content", self.study.when(time_s), self.profile.times["content"])
        d.WindowCenter, d.WindowWidth = "128", "256"
        pixels.put(d, _page(lines), 8)
        return d

    @property
    def _first(self) -> int:
        return self.profile.series_number_first

    def _order(self, image: Image) -> list[int]:
        """Slices as the scanner numbers them: towards the feet or the head."""
        ascends = image.geometry.step_lps_mm[2] >= 0
        order = list(range(len(image.hu)))
        return order if ascends == (self.profile.instance_order == "ascending") else order[::-1]

    def _slice(
        self,
        acquisition: Acquisition,
        index: int,
        image: Image,
        k: int,
        place: int,
        counted: tuple[int, int],
    ) -> Dataset:
        """Slice ``k``, acquired as number ``place`` of its image, series ``index`` of its
        acquisition; ``counted`` is how many came before in the series, and how many come."""
        profile, (before, total), number = self.profile, counted, acquisition.number
        single = self._series == "single" and acquisition.kind == "volume" and number != _PLANNING
        series: tuple[object, ...] = (
            acquisition.kind,
            image.kernel,
            *(() if single else (number,)),
        )
        d = self._ct("slice", number, index, before, series=series)
        d.SeriesNumber = (
            self._first + (0 if single else profile.series_number_step * number) + index
        )
        d.InstanceNumber = before + 1 + (number * total if single else 0)
        by_slice = profile.acquisition_number == "slice"
        d.AcquisitionNumber = d.InstanceNumber if by_slice else number + 1
        what = "fluoro" if acquisition.kind == "fluoro" else "check" if number > 0 else "baseline"
        self._describe(
            d, what, acquisition.kind, number, 0.0 if single else acquisition.time_s, image
        )
        self._times(d, acquisition, image, place)
        d.ConvolutionKernel = self._kernel(image)
        self._technique(d, image.technique)
        d.SliceThickness = profile.decimal(image.thickness_mm)
        self._place(d, image.geometry, k, image.hu.shape[1:])
        self._counts(d, number, total)
        pixels.put_ct(d, image.hu[k], profile, round_field=True)
        return pixels.encode(d, self._syntax)

    def _ct(self, *instance: object, series: tuple[object, ...] = ("scout",)) -> Dataset:
        d = self.study.new(CTImageStorage, *instance)
        d.SeriesInstanceUID = self.study.uid("series", *series)
        self._equipment(d)
        d.PatientPosition = self.study.procedure.position
        d.WindowCenter, d.WindowWidth = "40", "400"
        for keyword, value in self.profile.attributes.items():
            setattr(d, keyword, value)
        for block in self.profile.private:
            private = d.private_block(block.group, block.creator, create=True)
            for element in block.elements:
                private.add_new(element["offset"], element["vr"], element["value"])
        return d

    def _equipment(self, d: Dataset) -> None:
        d.Modality = "CT"
        procedure = self.study.procedure
        if procedure.organ in BODY_PARTS:
            d.BodyPartExamined = BODY_PARTS[procedure.organ]
        if procedure.organ in PAIRED:
            d.Laterality = procedure.laterality
        d.Manufacturer, d.ManufacturerModelName = self.profile.manufacturer, self.profile.model
        d.SpecificCharacterSet = self.profile.character_set
        if self.profile.timezone_offset:
            d.TimezoneOffsetFromUTC = self.study.when(0.0).strftime("%z")

    def _describe(
        self,
        d: Dataset,
        what: str,
        kind: str,
        number: int,
        time_s: float,
        image: Image | None = None,
    ) -> None:
        """Series description and date, ImageType and ScanOptions."""
        profile = self.profile
        d.SeriesDescription = profile.descriptions[what].format(
            number=number,
            plan=self.study.procedure.plan_label,
            thickness=image.thickness_mm if image else 0.0,
            kernel=self._kernel(image)[0] if image else "",
        )
        d.ImageType = profile.image_types[kind]
        if kind in profile.scan_options:
            d.ScanOptions = profile.scan_options[kind]
        stamp(d, "Series", self.study.when(time_s), profile.times["series"])

    def _kernel(self, image: Image) -> list[str]:
        if image.kernel not in self.profile.kernels:
            known = ", ".join(self.profile.kernels)
            raise ScenarioError(f"kernel {image.kernel!r}: {self.profile.name} has {known}")
        return self.profile.kernels[image.kernel]

    def _times(self, d: Dataset, acquisition: Acquisition, image: Image, place: int) -> None:
        profile, each_s = self.profile, image.duration_s / len(image.hu)
        acquired_s = image.time_s + place * each_s
        shown_s = image.time_s if profile.acquisition_time == "series" else acquired_s
        # Frames come several a second: whole seconds would give them all one time.
        least = 3 if acquisition.kind == "fluoro" else 0
        decimals = max(profile.times["acquisition"], least)
        stamp(d, "Acquisition", self.study.when(shown_s), decimals)
        if profile.acquisition_datetime:
            text = self.study.when(shown_s).strftime("%Y%m%d%H%M%S.%f")
            d.AcquisitionDateTime = cut(text, decimals)
        content_s = acquired_s
        if profile.content_time == "reconstructed":
            content_s = image.time_s + image.duration_s + (place + 1) * _RECONSTRUCTION_S
        stamp(d, "Content", self.study.when(content_s), max(profile.times["content"], least))

    def _technique(self, d: Dataset, technique: Technique) -> None:
        d.KVP = f"{technique.kvp:g}"
        d.XRayTubeCurrent = round(technique.mas / technique.rotation_s)
        d.ExposureTime = round(1000 * technique.rotation_s)
        d.Exposure = round(technique.mas)

    def _place(self, d: Dataset, g: Geometry, k: int, shape: tuple[int, ...]) -> None:
        decimal, tilt_deg = self.profile.decimal, tilt_deg_of(g)
        position = np.add(g.origin_lps_mm, k * np.array(g.step_lps_mm))
        d.ImagePositionPatient = [decimal(v) for v in position]
        d.ImageOrientationPatient = [decimal(v) for v in (*g.row_direction, *g.column_direction)]
        d.PixelSpacing = [decimal(g.spacing_mm[1]), decimal(g.spacing_mm[0])]
        d.ReconstructionDiameter = decimal(shape[1] * g.spacing_mm[0])
        d.SliceLocation = decimal(position[2])
        d.GantryDetectorTilt = decimal(round(self.profile.tilt_sign * tilt_deg, 2))
        if self.profile.spacing_between_slices:
            d.SpacingBetweenSlices = decimal(float(np.linalg.norm(g.step_lps_mm)))

    def _counts(self, d: Dataset, number: int, total: int) -> None:
        if self.profile.images_in_acquisition:
            d.ImagesInAcquisition = total
        if self.profile.temporal_position and number != _PLANNING:
            d.TemporalPositionIdentifier = number + 1
        if self.profile.irradiation_event:
            d.IrradiationEventUID = self.study.uid("irradiation", number)


def tilt_deg_of(geometry: Geometry) -> float:
    """How far the slices lean from the table's way, in degrees. Negative: the top of the gantry
    leans away from where the table enters (PS3.3 C.8.2.1, Gantry/Detector Tilt), head first."""
    step = np.array(geometry.step_lps_mm)
    normal = np.cross(geometry.row_direction, geometry.column_direction)
    along = step * np.sign(step @ normal) / np.linalg.norm(step)
    return float(np.degrees(np.arcsin(np.clip(along @ geometry.column_direction, -1, 1))))


def _by_kernel(acquisition: Acquisition) -> list[list[Image]]:
    kernels = dict.fromkeys(image.kernel for image in acquisition.images)
    return [[i for i in acquisition.images if i.kernel == kernel] for kernel in kernels]


def _page(lines: Sequence[str]) -> npt.NDArray[np.uint8]:
    """White text on black, in the small font that Pillow brings."""
    rows, columns = _DOSE_PAGE_ROWS_COLUMNS
    raster = Raster.new("L", (columns, rows), 0)
    draw = ImageDraw.Draw(raster)
    draw.multiline_text((16, 16), "\n".join(lines), 255, ImageFont.load_default_imagefont())
    return np.asarray(raster, np.uint8)
