"""A listener with all logging on, and what a scanner, a stranger and a broken peer do to it: run by
test_intake_tls, which looks for the patient's name in what this prints."""

from __future__ import annotations

import logging
import queue
import sys
import warnings
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).parents[2]))
from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig
from monitor.intake.decode import decode
from monitor.intake.limits import Limits
from monitor.intake.listener import Listener
from monitor.intake.messages import Listening
from monitor.model import CtSlice, Instance, Rejected
from scanner_sim.wire.link import Link, LinkError
from tests.intake.intake_helpers import ct_dataset


def images(name: str) -> list[Dataset]:
    good, other, broken = ct_dataset(0), ct_dataset(1), ct_dataset(2)
    for d in (good, other, broken):
        d.PatientName = d.PatientComments = d.SeriesDescription = name
    other.Modality = "MR"
    broken.ImagePositionPatient = None
    warnings.simplefilter("ignore")  # the sender's, which are not tested
    broken.add_new("PatientBirthDate", "DA", "TELLTALE")
    return [good, other, broken]


def main(record: Path, name: str) -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # the sender's, which is not tested
    (record / "blobs").mkdir()
    told: queue.Queue = queue.Queue()
    limits = Limits(pdu_s=0.5, durable=False)
    config = ListenerConfig("ICEBALL", "127.0.0.1", 0, (), None, limits)
    listener = Listener(config, record / "blobs", ProcedureClock.start(), told)
    listener.start()
    first = told.get()
    assert isinstance(first, Listening)
    address = ("127.0.0.1", first.port)
    contexts = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]
    try:
        Link(address, ("SCANNER", "OTHER"), contexts)
    except LinkError as error:
        print(error)
    link = Link(address, ("SCANNER", "ICEBALL"), contexts)
    for d in images(name):
        assert link.store(d, ExplicitVRLittleEndian) == 0
    link.store_half_and_abort(images(name)[0], ExplicitVRLittleEndian)
    link = Link(address, ("SCANNER", "ICEBALL"), contexts)
    link._send(b"\x04\0\0\0\x10\0" + b"\0\0\0\x20\x01\x00" + name.encode())
    link.close()
    listener.shutdown()
    accepted = refused = 0
    while not told.empty():
        message = told.get()
        print(message)
        if isinstance(message, Instance):
            result = decode(message, record)
            accepted += isinstance(result, CtSlice)
            if isinstance(result, Rejected):
                refused += 1
                print(result)
        elif hasattr(message, "line"):
            print(message.line())
    print(f"accepted {accepted} refused {refused}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
