"""A desk with one of its safeguards taken out, so that the oracle is seen to fail.

The product has no such switch: programs started with `DJANGO_SETTINGS_MODULE=tests.chaos.sabotage.settings`
read the file that `SABOTAGE` names at each step. It holds one of these words, or is not there.
"""

CLAIM, LOOKUP, ABSENCE, SWEEPER = "claim", "lookup", "absence", "sweeper"
