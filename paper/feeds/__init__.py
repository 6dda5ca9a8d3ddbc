"""Where prices come from: invented (`synthetic`) or recorded (`replay`)."""
