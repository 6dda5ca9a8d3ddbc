"""Every path of the exchange, and who answers it."""

from collections.abc import Mapping

from paper.protocol import futures, market, spot, wallet
from paper.protocol.calls import Route

ROUTES: Mapping[tuple[str, str], Route] = {
    **market.ROUTES,
    **futures.ROUTES,
    **spot.ROUTES,
    **wallet.ROUTES,
}
SPOT_USER_STREAM = "userDataStream.subscribe.signature"
# As fault rules name them; a method that only the WebSocket API has goes by its own name.
ENDPOINTS = frozenset(f"{method} {path}" for method, path in ROUTES) | {f"WS {SPOT_USER_STREAM}"}
