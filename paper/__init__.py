"""The paper exchange: Binance USDⓈ-M futures and a spot subset, on invented or recorded prices.

Start it alone, without the desk::

    python -m paper --port 18080 --feed synthetic --seed 7 --state var/paper
    python -m paper --feed replay --data candles/ --timeframe 1m --lockstep --admin-secret s3cret
    python -m paper --feed live --symbols BTCUSDT,ETHUSDT --faults faults.json

REST and streams share one port. A key that was never seen is an account funded with ``--deposit`` USDT of
futures margin and ``--spot-deposit`` USDT of spot balance; its secret is the key itself unless registered.

Two clocks: signatures, receive windows, rate limits and ``GET time`` follow the wall clock; candles, marks,
order and fill times and funding follow the feed. At speed 1 the synthetic feed and the wall agree.

Administration (header ``X-Paper-Secret`` when started with ``--admin-secret``, else loopback only):

=======================  =================================================================================
``GET /paper/status``     feed kind, clock, marks, accounts, counts, what the last tick cost
``POST /paper/advance``   ``{"points": n}`` moves a lockstep feed; answers ``time_ms, done, marks,
                          minute_closed, points`` once triggers, funding and liquidations have run
``POST /paper/mark``      ``{"symbol", "price", "last"?}`` jumps and pins a mark, ``price`` null releases it
``POST /paper/symbol``    ``{"symbol", "status"}``: TRADING, REDUCE_ONLY (-4140 for what opens) or any other
                          status (-4141); like a pinned mark it is kept with ``--state``
``POST /paper/account``   ``{"key", "secret"?, "deposit"?, "spot"?: {asset: quantity}, "permissions"?,
                          "dual"?, "multi_assets"?, "revoked"?}`` makes or changes an account; deposits and
                          spot quantities are added
``POST /paper/faults``    one rule or ``{"rules": [...]}``, all or none (see :mod:`paper.fault_rules`);
                          ``GET`` lists with hit counts; ``DELETE`` removes all
``GET /paper/ledger``     ``?format=json|csv&since=seq``: every accepted placement, fill, cancel, trigger,
                          funding and transfer (see :mod:`paper.ledger`)
``GET /paper/wallets``    the balances and positions the account state holds, to be compared with the fold
``GET /paper/weights``    request weight used and requests refused, by address and minute
``GET /``                 a status page
=======================  =================================================================================

Decided where the exchange's documents are silent (all of it in ``docs/paper-exchange.md``):

- the book is invented around the last price and the same for every order: 16 levels within 4.5 %, nobody
  consumes another's depth; resting orders fill whole, at their price, when the book reaches it;
- a close-position order may be placed before its position; it expires when that is or becomes flat;
- a price-protected order whose trigger is met while mark and last are too far apart stays NEW and waits;
- a duplicate conditional client id is -4116, and ordinary and conditional ids do not collide;
- -4118 counts resting ordinary reduce-only orders, never waiting conditional ones;
- an order for a reduction larger than the position is accepted for the position;
- a liquidation cancels the symbol's ordinary orders and closes whole; its fee, at most 1.25 %, is an
  INSURANCE_CLEAR income; a cross wallet below zero is lifted to zero by another;
- funding that fell due while the exchange was stopped is not charged, and a trigger passed meanwhile fires
  only if the price is still beyond it;
- fees and profits are rounded half-even to 1e-8 once, when they are booked.

Unlike the original: self-trade prevention and multi-assets margin are accepted as settings but change
nothing, and an address is banned (418) after fifty requests too many in one minute: two minutes, then twice
as long.
"""
