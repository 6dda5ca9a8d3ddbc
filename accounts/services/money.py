"""What an exchange told of an account's money, as the columns of its row."""

from decimal import Decimal

from exchange.port import BalanceReport


def money_columns(balance: BalanceReport | None, spot: BalanceReport | None) -> dict[str, Decimal]:
    """The columns of both wallets in quote units; what was not read is left out and stays as it was."""
    columns: dict[str, Decimal] = {}
    if balance is not None:
        columns |= {
            "wallet_balance": balance.wallet,
            "unrealized_profit": balance.unrealized_profit,
            "available_balance": balance.available,
        }
    if spot is not None:
        columns |= {"spot_wallet": spot.wallet, "spot_available": spot.available}
    return columns
