"""Whether a peer rejected an association that was asked for.

Its own module because whoever asks needs it, and the library's flag is not enough: of a rejection that comes
within a fraction of a millisecond pynetdicom 3.0 only says that it is not established.
"""

from __future__ import annotations

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE


def rejected(association: Association) -> bool:
    """The answer of the peer itself is still there to be read, whichever way it was missed."""
    answer = association.dul.peek_next_pdu()
    return association.is_rejected or (
        isinstance(answer, A_ASSOCIATE) and answer.result not in (None, 0)
    )
