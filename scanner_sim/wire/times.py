"""The times on an image, moved. Seconds. Invariant: all of an image's times move by the same."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

_TIMES = ("Series", "Acquisition", "Content")


def shift_times(d: Dataset, seconds: float) -> None:
    """Of the image, and of each of its frames."""
    for what in _TIMES:
        day, clock = d.get(f"{what}Date"), d.get(f"{what}Time")
        if day and clock:
            moved = _moved(f"{day}{clock}", seconds)
            setattr(d, f"{what}Date", moved[:8])
            setattr(d, f"{what}Time", moved[8:])
    if d.get("AcquisitionDateTime"):
        d.AcquisitionDateTime = _moved(str(d.AcquisitionDateTime), seconds)
    for groups in d.get("PerFrameFunctionalGroupsSequence") or ():
        content = groups.FrameContentSequence[0]
        for keyword in ("FrameReferenceDateTime", "FrameAcquisitionDateTime"):
            setattr(content, keyword, _moved(str(content[keyword].value), seconds))


def _moved(stamp: str, seconds: float) -> str:
    """``YYYYMMDDhhmmss[.f]`` shifted, in as many decimals as it had."""
    whole, dot, decimals = stamp.partition(".")
    moved = datetime.strptime(whole, "%Y%m%d%H%M%S") + timedelta(seconds=round(seconds))
    return moved.strftime("%Y%m%d%H%M%S") + dot + decimals


def acquire_at(datasets: Iterable[Dataset], utc_s: float) -> None:
    """Moves a scan's times so that its first image was acquired then, to the second."""
    every = list(datasets)
    seconds = utc_s - min(map(_acquired_utc_s, every))
    for d in every:
        shift_times(d, seconds)


def _acquired_utc_s(d: Dataset) -> float:
    """Without an offset from UTC the scanner's clock shows what this machine's does."""
    stamp = f"{d.get('AcquisitionDate', '')}{d.get('AcquisitionTime', '')}" or d.AcquisitionDateTime
    stamp, offset = str(stamp)[:14], d.get("TimezoneOffsetFromUTC")
    if offset:
        return datetime.strptime(f"{stamp}{offset}", "%Y%m%d%H%M%S%z").timestamp()
    return datetime.strptime(stamp, "%Y%m%d%H%M%S").timestamp()
