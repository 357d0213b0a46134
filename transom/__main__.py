"""`python -m transom`: the same as the command `transom`."""

from transom.cli import entry

if __name__ == "__main__":
    entry()
