"""The documentation's shell blocks, typed in a house made of software; `make blocks`."""
