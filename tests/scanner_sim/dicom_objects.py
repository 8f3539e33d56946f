"""Objects as the simulated scanner writes them, read back, for the tests of what is in them. LPS mm, HU."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from scanner_sim.console import writer_of
from scanner_sim.dicom import profiles, structures
from scanner_sim.dicom.writer import Writer
from scanner_sim.images import Geometry
from scanner_sim.patient.anatomy import Anatomy, outline
from scanner_sim.render import Renderer
from scanner_sim.scenario import Scenario
from tests.scanner_sim.samples import (
    BODIES,
    EPOCH_UTC_S,
    TECHNIQUE,
    acquisition,
    fluoro,
    geometry,
)

PROFILES = profiles.names()
SCOUT = Geometry(
    (-60.0, 0.0, 200.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 1.2)
)


def as_bytes(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def read_back(dataset: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(as_bytes(dataset)))


def hounsfield(d: Dataset) -> np.ndarray:
    return d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)


def position(d: Dataset) -> np.ndarray:
    return np.array(d.ImagePositionPatient, float)


def everything(w: Writer) -> list[Dataset]:
    slices = [*w.slices(acquisition()), *w.slices(fluoro(2))]
    plan = structures.rtstruct(w.study, BODIES, geometry(), (8, 48, 40), slices[:8])
    seg = structures.segmentation(w.study, BODIES, slices[:8])
    scout = w.scout(np.full((50, 60), -200, np.int16), SCOUT, TECHNIQUE, -30.0)
    return [*slices, plan, seg, scout, w.dose_page(["Total DLP 123 mGy·cm"], 900.0)]


def unseen_slices(scenario: Scenario, number: int = 0) -> list[Dataset]:
    """The slices of a scenario's own scan, in their places and in its scanner's habits; 32² pixels
    without a patient."""
    o = outline(scenario)
    nothing = np.zeros((0, 0, 0), np.float32)
    anatomy = Anatomy(
        o.frame,
        o.lesion,
        o.lesion_centre_lps_mm,
        o.structures,
        o.needles,
        nothing,
        nothing.astype(np.uint8),
    )
    found = Renderer(scenario, anatomy, o.frame).described(number)
    hu = np.zeros((scenario.scanner.slices, 32, 32), np.int16)
    images = tuple(replace(image, hu=hu) for image in found.images)
    return list(writer_of(scenario, EPOCH_UTC_S).slices(replace(found, images=images)))


def corners(rows: int, columns: int) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    u, v = (y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5
    return u**2 + v**2 > 0.25
