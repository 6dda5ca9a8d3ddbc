"""The one path to the exchange: claim, send, record; look up what is unclear; cancel what rests.

Entry, exit, stop, flatten and manual close all pass here; nothing else may place an order. Promises:

1. An order is SUBMITTED, with its request timestamp, in a committed row before its bytes leave.
2. A row is sent by one owner: claims compare-and-set, and every later write carries the claim.
3. An order whose fate is unclear is looked up, never sent again and never sent elsewhere.
4. Only a definite refusal lets the same id (throttled) or another executor (curable code) try again.
5. No transaction is open while the network is waited for.
"""

from trading.services.execution.cancelling import cancel, cancel_leftovers
from trading.services.execution.recording import Reported, apply_report, apply_reports
from trading.services.execution.resolving import refresh, resolve, seconds_until_look
from trading.services.execution.sending import CROWD, submit

__all__ = [
    "CROWD",
    "Reported",
    "apply_report",
    "apply_reports",
    "cancel",
    "cancel_leftovers",
    "refresh",
    "resolve",
    "seconds_until_look",
    "submit",
]
