"""OKX's documented shapes: each names its section under www.okx.com/docs-v5/en."""

import base64
import hmac
from datetime import datetime
from typing import Any

from exchange.tests.venues.wire import KEY, PASSPHRASE, SECRET, Asked, WireExchange, now_ms

PUBLIC = ("/api/v5/public/", "/api/v5/market/")
SIGNATURE_AGE_MS = 30_000


class OkxWire(WireExchange):
    """`#overview-rest-authentication` (signature, 30 s), `#overview-transaction-timeouts` (expTime)."""

    def refused(self, asked: Asked, target: str) -> tuple[Any, int] | None:
        if asked.path.startswith(PUBLIC):
            return None
        sent = asked.headers["OK-ACCESS-TIMESTAMP"]
        body = asked.raw if asked.method == "POST" else ""
        signed = hmac.new(SECRET.encode(), f"{sent}{asked.method}{target}{body}".encode(), "sha256").digest()
        if asked.headers["OK-ACCESS-SIGN"] != base64.b64encode(signed).decode():
            return refusal("50113", "Invalid Sign"), 401
        if (asked.headers["OK-ACCESS-KEY"], asked.headers["OK-ACCESS-PASSPHRASE"]) != (KEY, PASSPHRASE):
            return refusal("50105", 'Request header "OK-ACCESS-PASSPHRASE" incorrect.'), 401
        if abs(now_ms() - datetime.fromisoformat(sent).timestamp() * 1000) > SIGNATURE_AGE_MS:
            return refusal("50102", "Timestamp request expired"), 401
        if now_ms() > int(asked.headers.get("expTime", now_ms())):
            return refusal("50036", "The expTime can't be earlier than the current system time."), 200
        return None

    def no_such_path(self) -> Any:
        return {"code": 404, "data": {}, "detailMsg": "", "error_code": "404", "msg": "Not Found"}


def refusal(code: str, message: str = "refused") -> dict[str, Any]:
    """`#error-code`: a refusal of the whole request."""
    return {"code": code, "data": [], "msg": message}


def order_refusal(code: str, outer: str = "1", **ids: str) -> dict[str, Any]:
    """`#order-book-trading-trade-post-place-order`: a refusal of the order, by its own `sCode`."""
    row = {"clOrdId": "phx1", "ordId": "", "tag": "", "sCode": code, "sMsg": "refused", **ids}
    return {"code": outer, "data": [row], "msg": "All operations failed"}


def rows(*listed: Any) -> dict[str, Any]:
    return {"code": "0", "data": list(listed), "msg": ""}


def acknowledged(asked: Asked) -> dict[str, Any]:
    """`#order-book-trading-trade-post-place-multiple-orders`, Response Example."""
    (sent,) = asked.body if isinstance(asked.body, list) else [asked.body]
    row = {"clOrdId": sent["clOrdId"], "ordId": "12345689", "tag": "", "sCode": "0", "sMsg": ""}
    return {**rows(row), "inTime": "1695190491421339", "outTime": "1695190491423240"}


def algo_acknowledged(asked: Asked) -> dict[str, Any]:
    """`#order-book-trading-algo-trading-post-place-algo-order`, Response Example."""
    (sent,) = asked.body if isinstance(asked.body, list) else [asked.body]
    return rows(
        {
            "algoClOrdId": sent["algoClOrdId"],
            "algoId": "1836487817828872192",
            "clOrdId": "",
            "sCode": "0",
            "sMsg": "",
            "tag": "",
        }
    )


def order(**changes: Any) -> dict[str, Any]:
    """`#order-book-trading-trade-get-order-details`, Response Example, on a swap."""
    return {
        "accFillSz": "1.3",
        "algoClOrdId": "",
        "algoId": "",
        "attachAlgoClOrdId": "",
        "attachAlgoOrds": [],
        "avgPx": "70000.1",
        "cTime": "1708587373361",
        "cancelSource": "",
        "cancelSourceReason": "",
        "category": "normal",
        "ccy": "",
        "clOrdId": "phx1",
        "fee": "-0.45500065",
        "feeCcy": "USDT",
        "fillPx": "70000.1",
        "fillSz": "1.3",
        "fillTime": "1708587373361",
        "instId": "BTC-USDT-SWAP",
        "instType": "SWAP",
        "isTpLimit": "false",
        "lever": "3",
        "linkedAlgoOrd": {"algoId": ""},
        "ordId": "680800019749904384",
        "ordType": "ioc",
        "pnl": "0",
        "posSide": "net",
        "px": "70000.1",
        "rebate": "0",
        "rebateCcy": "USDT",
        "reduceOnly": "false",
        "side": "buy",
        "slOrdPx": "",
        "slTriggerPx": "",
        "source": "",
        "state": "filled",
        "stpMode": "cancel_maker",
        "sz": "1.3",
        "tag": "",
        "tdMode": "isolated",
        "tgtCcy": "",
        "tradeId": "744876980",
        "uTime": "1708587373362",
        **changes,
    }


def algo(**changes: Any) -> dict[str, Any]:
    """`#order-book-trading-algo-trading-get-algo-order-details`, Response Example, a full-close stop."""
    return {
        "activePx": "",
        "actualPx": "",
        "actualSide": "",
        "actualSz": "0",
        "algoClOrdId": "phxstop1",
        "algoId": "1753184812254216192",
        "amendPxOnTriggerType": "0",
        "attachAlgoOrds": [],
        "cTime": "1724751378980",
        "callbackRatio": "",
        "callbackSpread": "",
        "ccy": "",
        "clOrdId": "",
        "closeFraction": "1",
        "failCode": "0",
        "instId": "BTC-USDT-SWAP",
        "instType": "SWAP",
        "lever": "3",
        "moveTriggerPx": "",
        "ordId": "",
        "ordIdList": [],
        "ordPx": "",
        "ordType": "conditional",
        "posSide": "net",
        "reduceOnly": "true",
        "side": "sell",
        "slOrdPx": "-1",
        "slTriggerPx": "69000",
        "slTriggerPxType": "mark",
        "state": "live",
        "sz": "",
        "tag": "",
        "tdMode": "isolated",
        "tpOrdPx": "",
        "tpTriggerPx": "",
        "tpTriggerPxType": "",
        "triggerPx": "",
        "triggerPxType": "",
        "triggerTime": "",
        "uTime": "1724751378980",
        **changes,
    }


def fill(**changes: Any) -> dict[str, Any]:
    """`#order-book-trading-trade-get-transaction-details-last-3-days`, Response Example, on a swap."""
    return {
        "side": "buy",
        "fillSz": "1.3",
        "fillPx": "70000.1",
        "fillPxVol": "",
        "fillFwdPx": "",
        "fee": "-0.45500065",
        "fillPnl": "0",
        "ordId": "680800019749904384",
        "feeRate": "-0.0005",
        "instType": "SWAP",
        "fillPxUsd": "",
        "instId": "BTC-USDT-SWAP",
        "clOrdId": "phx1",
        "posSide": "net",
        "billId": "680800019754098688",
        "subType": "1",
        "fillMarkVol": "",
        "tag": "",
        "fillTime": "1708587373361",
        "execType": "T",
        "fillIdxPx": "",
        "tradeId": "744876980",
        "fillMarkPx": "",
        "feeCcy": "USDT",
        "ts": "1708587373362",
        **changes,
    }


def position(**changes: Any) -> dict[str, Any]:
    """`#trading-account-rest-api-get-positions`, Response Example, net mode."""
    return {
        "adl": "1",
        "availPos": "",
        "avgPx": "3320.5",
        "cTime": "1619507758793",
        "ccy": "USDT",
        "fundingFee": "0",
        "imr": "",
        "instId": "ETH-USDT-SWAP",
        "instType": "SWAP",
        "last": "3306.1",
        "lever": "3",
        "liqPx": "4200.5",
        "margin": "55.34",
        "markPx": "3305.5",
        "mgnMode": "isolated",
        "mgnRatio": "10.9",
        "mmr": "1.3",
        "notionalUsd": "165.9",
        "pnl": "0",
        "pos": "-0.5",
        "posId": "307173036051017730",
        "posSide": "net",
        "realizedPnl": "-0.08",
        "tradeId": "109844",
        "uTime": "1619507761462",
        "upl": "0.75",
        "uplRatio": "0.0135",
        **changes,
    }


def balance(**changes: Any) -> dict[str, Any]:
    """`#trading-account-rest-api-get-balance`, Response Example, futures mode."""
    detail = {
        "availBal": "94.42612990333333",
        "availEq": "94.42612990333333",
        "cashBal": "94.42612990333333",
        "ccy": "USDT",
        "eq": "99.89469657000001",
        "eqUsd": "99.88870288820581",
        "fixedBal": "0",
        "frozenBal": "5.468566666666667",
        "imr": "0",
        "isoEq": "5.468566666666667",
        "isoUpl": "-0.0273000000000002",
        "mgnRatio": "",
        "mmr": "0",
        "notionalLever": "0",
        "ordFrozen": "0",
        "uTime": "1744498994783",
        "upl": "-0.0273000000000002",
        **changes,
    }
    return rows({"adjEq": "", "details": [detail], "totalEq": "99.88870288820581", "uTime": "1744499648556"})


def config(**changes: Any) -> dict[str, Any]:
    """`#trading-account-rest-api-get-account-configuration`, Response Example."""
    return rows(
        {
            "acctLv": "2",
            "acctStpMode": "cancel_maker",
            "autoLoan": False,
            "ctIsoMode": "automatic",
            "greeksType": "PA",
            "ip": "",
            "type": "0",
            "kycLv": "3",
            "label": "v5 test",
            "level": "Lv1",
            "mainUid": "44705892343619584",
            "mgnIsoMode": "automatic",
            "opAuth": "1",
            "perm": "read_only,trade",
            "posMode": "net_mode",
            "roleType": "0",
            "uid": "44705892343619584",
            **changes,
        }
    )


def bill(**changes: Any) -> dict[str, Any]:
    """`#trading-account-rest-api-get-bills-details-last-7-days`, Response Example, a funding fee."""
    return {
        "bal": "8694.2179403378290202",
        "balChg": "0",
        "billId": "623950854533513219",
        "ccy": "USDT",
        "clOrdId": "",
        "execType": "",
        "fee": "0",
        "fillTime": "",
        "from": "",
        "instId": "BTC-USDT-SWAP",
        "instType": "SWAP",
        "interest": "0",
        "mgnMode": "isolated",
        "notes": "",
        "ordId": "",
        "pnl": "-0.0219",
        "posBal": "30.3",
        "posBalChg": "-0.0219",
        "px": "27105.9",
        "subType": "173",
        "sz": "1.3",
        "tag": "",
        "to": "",
        "tradeId": "",
        "ts": "1695033476167",
        "type": "8",
        **changes,
    }


def instrument(base: str, ct_val: str, **changes: Any) -> dict[str, Any]:
    """`#public-data-rest-api-get-instruments`, a linear swap."""
    return {
        "alias": "",
        "auctionEndTime": "",
        "baseCcy": "",
        "category": "1",
        "ctMult": "1",
        "ctType": "linear",
        "ctVal": ct_val,
        "ctValCcy": base,
        "expTime": "",
        "futureSettlement": False,
        "instFamily": f"{base}-USDT",
        "instId": f"{base}-USDT-SWAP",
        "instType": "SWAP",
        "lever": "100",
        "listTime": "1573557408000",
        "lotSz": "0.01",
        "maxIcebergSz": "100000000.0000000000000000",
        "maxLmtAmt": "20000000",
        "maxLmtSz": "100000000",
        "maxMktAmt": "",
        "maxMktSz": "12000",
        "maxStopSz": "12000",
        "minSz": "0.01",
        "optType": "",
        "quoteCcy": "",
        "ruleType": "normal",
        "settleCcy": "USDT",
        "state": "live",
        "stk": "",
        "tickSz": "0.1",
        "uly": f"{base}-USDT",
        **changes,
    }


INSTRUMENTS = rows(
    instrument("BTC", "0.01"),
    instrument("ETH", "0.1", tickSz="0.01"),
    instrument("SHIB", "1000000", lotSz="0.1", minSz="0.1", tickSz="0.000000001"),
    {
        **instrument("BTC", "100", ctType="inverse", ctValCcy="USD", settleCcy="BTC", lotSz="1", minSz="1"),
        "instId": "BTC-USD-SWAP",
        "instFamily": "BTC-USD",
        "uly": "BTC-USD",
    },
)

SERVER_TIME = rows({"ts": "1597026383085"})
"""`#public-data-rest-api-get-system-time`, Response Example."""

MARKS = rows({"instType": "SWAP", "instId": "BTC-USDT-SWAP", "markPx": "70000.4", "ts": "1597026383085"})
"""`#public-data-rest-api-get-mark-price`, Response Example."""

TICKERS = rows(
    {
        "instType": "SWAP",
        "instId": "BTC-USDT-SWAP",
        "last": "70010.0",
        "lastSz": "1",
        "askPx": "70010.1",
        "askSz": "11",
        "bidPx": "70009.9",
        "bidSz": "5",
        "open24h": "69000",
        "high24h": "71000",
        "low24h": "68000",
        "volCcy24h": "22220",
        "vol24h": "2222000",
        "sodUtc0": "69000",
        "sodUtc8": "69000",
        "ts": "1597026383085",
    }
)
"""`#order-book-trading-market-data-get-tickers`, Response Example."""

CANDLES = rows(
    ["1597030000000", "3.721", "3.743", "3.677", "3.708", "8422410", "22698348.04", "84224100.5", "0"],
    ["1597026400000", "3.731", "3.799", "3.494", "3.72", "24912403", "67632347.24", "249124030.5", "1"],
)
"""`#order-book-trading-market-data-get-candlesticks`, Response Example."""

BOOK = rows(
    {
        "asks": [["41006.8", "60.3", "0", "1"]],
        "bids": [["41006.3", "30.1", "0", "2"]],
        "ts": "1629966436396",
    }
)
"""`#order-book-trading-market-data-get-order-book`, Response Example."""
