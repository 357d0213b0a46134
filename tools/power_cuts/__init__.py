"""Cut the power of a booted machine again and again: see `tools.power_cuts.__main__`."""
