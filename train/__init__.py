"""Labelled images become a run: weights, the resolved recipe, and a report on what was learnt."""

import os

# Torch's threads wait for each other by spinning. On a machine that does anything else besides,
# that spends the core the other thread needs: measured 20 times slower on two busy cores. It
# must be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
