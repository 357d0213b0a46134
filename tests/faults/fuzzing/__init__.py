"""Readers of what others send, fuzzed with coverage as a guide: `make fuzz`.

Atheris (libFuzzer) changes what is well-formed until it reaches new lines of a reader. It works in
a process of its own, `engine`, which imports nothing of Transom before it is instrumented.
"""
