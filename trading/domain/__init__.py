"""The trading rules as values and pure functions: no clock, no log, no database, standard library only."""
