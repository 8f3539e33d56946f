"""Patient, study and frame of reference: what every object of a procedure shares. UTC seconds.

Invariant: the study's UIDs depend on the procedure and the epoch, the frame of reference on the
procedure alone: the patient lies where the plan saw him, so plan and images share it, whenever they
were written. Patient identity is as ``Procedure`` says, in every object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

# PS3.16 annex L, table L-1: what BodyPartExamined may be.
BODY_PARTS = {
    "abdominal_wall": "ABDOMEN",
    "breast": "BREAST",
    "lung": "LUNG",
    "liver": "LIVER",
    "kidney": "KIDNEY",
    "adrenal": "ADRENAL",
}


@dataclass(frozen=True)
class Procedure:
    """What is done to whom. ``patient_label`` is ``LAST, First``; ``plan_label`` names the baseline
    scan. ``(name, seed)`` make the UIDs."""

    name: str
    seed: int
    patient_id: str
    patient_label: str
    organ: str
    plan_label: str = "PLAN"


@dataclass(frozen=True)
class Study:
    """The study of one procedure, whose baseline is acquired at ``epoch_utc_s``. Times are written
    in ``zone``: a receiver takes those without an offset for its own local time (PS3.3 C.12.1.1)."""

    procedure: Procedure
    epoch_utc_s: float
    zone: tzinfo = UTC

    @property
    def frame_of_reference_uid(self) -> str:
        p = self.procedure
        return str(generate_uid(entropy_srcs=[p.name, str(p.seed), "frame"]))

    def uid(self, *what: object) -> str:
        p = self.procedure
        sources = [p.name, str(p.seed), repr(self.epoch_utc_s), *map(str, what)]
        return str(generate_uid(entropy_srcs=sources))

    def when(self, time_s: float) -> datetime:
        """The wall clock in the scanner's room, ``time_s`` after the baseline."""
        return datetime.fromtimestamp(self.epoch_utc_s + time_s, self.zone)

    def new(self, sop_class: UID, *instance: object) -> Dataset:
        """A dataset with patient, study, frame and SOP common attributes; ``instance`` tells this
        instance from the procedure's others."""
        d = Dataset()
        uid = UID(self.uid("instance", *instance))
        d.file_meta = FileMetaDataset()
        d.file_meta.MediaStorageSOPClassUID = sop_class
        d.file_meta.MediaStorageSOPInstanceUID = uid
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SpecificCharacterSet = "ISO_IR 192"
        d.SOPClassUID, d.SOPInstanceUID = sop_class, uid
        self._patient_and_study(d)
        d.FrameOfReferenceUID, d.PositionReferenceIndicator = self.frame_of_reference_uid, ""
        return d

    def _patient_and_study(self, d: Dataset) -> None:
        p = self.procedure
        d.PatientID, d.PatientName = p.patient_id, p.patient_label.replace(", ", "^")
        d.PatientBirthDate, d.PatientSex = "", "O"
        d.StudyInstanceUID, d.StudyID = self.uid("study"), "1"
        stamp(d, "Study", self.when(0.0), 6)
        d.AccessionNumber, d.ReferringPhysicianName = "", ""
        d.StudyDescription = "Simulated cryoablation (not a patient)"


def stamp(d: Dataset, what: str, when: datetime, decimals: int) -> None:
    """Sets ``<what>Date`` and ``<what>Time`` (DA, TM), cut to ``decimals`` of a second."""
    setattr(d, f"{what}Date", when.strftime("%Y%m%d"))
    setattr(d, f"{what}Time", cut(when.strftime("%H%M%S.%f"), decimals))


def cut(text: str, decimals: int) -> str:
    """``…SS.ffffff`` with that many decimals."""
    return text[: len(text) - 6 + decimals].rstrip(".")
