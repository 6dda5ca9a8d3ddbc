"""The wallet and margin calls clients make around trading."""

from paper.protocol.calls import SIGNED, Call, Json, Route, Routes


def status(_call: Call) -> Json:
    """The exchange is up."""
    return {"status": 0, "msg": "normal"}


def nothing(_call: Call) -> Json:
    """There are no coins to withdraw and no margin pairs here."""
    return []


def restrictions(call: Call) -> Json:
    """What the key may do; set by administration."""
    account = call.portfolio.account
    return {"createTime": account.created_ms, **account.permissions}


SAPI = "/sapi/v1"
ROUTES: Routes = {
    ("GET", f"{SAPI}/system/status"): Route(status),
    ("GET", f"{SAPI}/account/apiRestrictions"): Route(restrictions, SIGNED),
    ("GET", f"{SAPI}/capital/config/getall"): Route(nothing, SIGNED, 10),
    ("GET", f"{SAPI}/margin/allPairs"): Route(nothing),
    ("GET", f"{SAPI}/margin/isolated/allPairs"): Route(nothing),
    ("GET", f"{SAPI}/margin/allAssets"): Route(nothing),
}
