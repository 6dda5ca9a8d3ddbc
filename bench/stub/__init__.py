"""An exchange that only acknowledges: what the desk costs, without what an exchange costs.

`python -m bench.stub PORT LATENCY_MS`. Speaks as much of Binance USDⓈ-M as the desk asks for: market tables,
time, prices, placements, lookups, executions of an order, listen keys and streams. It checks no signature and
keeps no account. Every answer of the exchange's own paths comes after the latency.

`POST /bench/reset?fills=1&told=1&unclear=10&first=1000` starts a round. With `fills` every placement is
answered FILLED, as ``newOrderRespType=RESULT`` does: quantities and no price, which since 2026 only the
executions tell. They can be read at once; with `told`, whoever listens to the account hears of them with the
answer. `unclear` is the share of the first placements, in percent, whose answer is lost: every other one of
those was taken. `held` is what every account is long of until it sells.

`POST /bench/mark?symbol=BTCUSDT&price=1` moves a mark and tells it at once. `GET /bench/counts` tells what
came since, and the stub's own CPU.
"""
