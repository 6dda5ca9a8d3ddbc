"""The exchange as the desk needs it: port, errors, gateway, quirks, symbols, budget, the I/O loop."""
