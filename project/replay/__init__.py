"""Recorded candles through the whole desk: `stage` raises programs, `driver` moves time, `report` tells."""
