"""
Signatures of what other servers send (contracts A.2, F.6).

Always over the raw bytes as they came, before inflating and before parsing, and compared in constant
time. A signed time is looked at after the signature: whoever can't sign learns nothing about our clock.
"""

from daemon.events.signatures.common import SKEW_MS_MAX, BadSignature, Headers, SignedRequest
from daemon.events.signatures.datafly import check_datafly, datafly_signature

__all__ = [
    "SKEW_MS_MAX",
    "BadSignature",
    "Headers",
    "SignedRequest",
    "check_datafly",
    "datafly_signature",
]
