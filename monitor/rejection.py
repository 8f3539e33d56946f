"""Whether a peer rejected an association that was asked for, and which title it did not know.

Its own module because whoever asks needs it, and the library's flag is not enough: of a rejection that comes
within a fraction of a millisecond pynetdicom 3.0 only says that it is not established.
"""

from __future__ import annotations

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

# PS3.8 9.3.4: the source of a rejection, and its reasons.
_SERVICE_USER = 1
_TITLES = {3: "calling", 7: "called"}


def rejected(association: Association) -> bool:
    return association.is_rejected or _rejection(association) is not None


def title_unknown(association: Association) -> str:
    """ "called" or "calling"; "" where it was rejected for another reason, or not at all."""
    answer = _rejection(association)
    if answer is None or answer.result_source != _SERVICE_USER:
        return ""
    return _TITLES.get(answer.diagnostic or 0, "")


def _rejection(association: Association) -> A_ASSOCIATE | None:
    """The answer of the peer itself, which is still there to be read, whichever way it was missed."""
    for answer in (association.dul.peek_next_pdu(), association.acceptor.primitive):
        if isinstance(answer, A_ASSOCIATE) and answer.result not in (None, 0):
            return answer
    return None
