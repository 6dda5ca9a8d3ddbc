"""Who trades: accounts, executors, credentials, groups, limits with overrides, health."""
