"""What people must be told: one row per cause, counted, acknowledged, delivered."""
