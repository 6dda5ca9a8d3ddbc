"""The matching, margin and order rules. No network, no clock of its own, no file."""
