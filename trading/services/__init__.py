"""The verbs of the desk. Services commit rows and return bells; tasks ring them."""
