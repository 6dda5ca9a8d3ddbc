"""A strategy that never decides: positions come and go by the bot's own interface, guarded by a stop."""

from datetime import datetime
from typing import Any

from freqtrade.strategy import IStrategy


class OnlyWhenForced(IStrategy):  # type: ignore[misc]  # freqtrade is no dependency, its class is unknown here
    """Market orders, three times leverage, the stop kept at the exchange."""

    INTERFACE_VERSION = 3
    can_short = True
    timeframe = "5m"
    startup_candle_count = 0
    minimal_roi = {"0": 10.0}
    stoploss = -0.06
    order_types = {
        "entry": "market",
        "exit": "market",
        "force_entry": "market",
        "force_exit": "market",
        "emergency_exit": "market",
        "stoploss": "market",
        "stoploss_on_exchange": True,
        "stoploss_on_exchange_interval": 5,
    }

    def leverage(self, pair: str, current_time: datetime, **_: Any) -> float:
        """What every entry is levered with."""
        return 3.0

    def populate_indicators(self, dataframe: Any, metadata: dict[str, Any]) -> Any:
        """None are needed."""
        return dataframe

    def populate_entry_trend(self, dataframe: Any, metadata: dict[str, Any]) -> Any:
        """Never."""
        dataframe["enter_long"] = 0
        return dataframe

    def populate_exit_trend(self, dataframe: Any, metadata: dict[str, Any]) -> Any:
        """Never."""
        dataframe["exit_long"] = 0
        return dataframe
