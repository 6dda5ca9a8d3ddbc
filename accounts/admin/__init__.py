from accounts.admin.accounts import AccountAdmin
from accounts.admin.groups import AccountGroupAdmin, TagAdmin
from accounts.admin.health import BreakerAdmin, SymbolSettingAdmin
from accounts.admin.limits import DeskLimitAdmin, LimitChangeAdmin

__all__ = [
    "AccountAdmin",
    "AccountGroupAdmin",
    "BreakerAdmin",
    "DeskLimitAdmin",
    "LimitChangeAdmin",
    "SymbolSettingAdmin",
    "TagAdmin",
]
