"""Patient, study and frame of reference: what every object of a procedure shares. UTC seconds.

Invariant: the study's UIDs depend on the procedure, the epoch and the scanner's habits; the frame of
reference on the procedure alone: the patient lies where the plan saw him, so plan and images share
it, whenever and by whichever scanner they were written. Patient identity is as ``Procedure`` says,
in every object.
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
# Of which there are two, as of bone there mostly are: PS3.3 C.7.3.1 asks which.
PAIRED = frozenset({"breast", "lung", "kidney", "adrenal", "bone"})


@dataclass(frozen=True)
class Procedure:
    """What is done to whom. ``patient_label`` is ``LAST, First``; ``plan_label`` names the baseline
    scan. Name, seed and ``anatomy``, a digest of what else the patient was made of, make the UIDs.
    ``laterality`` of the lesion is L, R or empty; ``position`` HFS or HFP."""

    name: str
    seed: int
    patient_id: str
    patient_label: str
    organ: str
    plan_label: str = "PLAN"
    anatomy: str = ""
    laterality: str = ""
    position: str = "HFS"


@dataclass(frozen=True)
class Study:
    """The study of one procedure, whose baseline is acquired at ``epoch_utc_s``. Times are written
    in ``zone``: a receiver takes those without an offset for its own local time (PS3.3 C.12.1.1).
    ``habits``: what else decides about the objects, and is no part of the procedure."""

    procedure: Procedure
    epoch_utc_s: float
    zone: tzinfo = UTC
    habits: str = ""

    @property
    def frame_of_reference_uid(self) -> str:
        return self._uid("frame")

    def uid(self, *what: object) -> str:
        return self._uid(self.habits, repr(self.epoch_utc_s), *what)

    def _uid(self, *what: object) -> str:
        p = self.procedure
        # pydicom joins its sources with nothing between: scan 1, slice 11 would be scan 11, slice 1.
        whole = "\n".join(map(str, (p.name, p.seed, p.anatomy, *what)))
        return str(generate_uid(entropy_srcs=[whole]))

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
