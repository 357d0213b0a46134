"""What `transom doctor` finds."""

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finding.

    Attributes:
        check: What was looked at.
        ok: Whether it is well.
        what: What was found.
        do: What to do about it; empty where all is well.
    """

    check: str
    ok: bool
    what: str
    do: str = ""
