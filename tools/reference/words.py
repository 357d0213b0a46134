"""Small tables: errors, exit codes, reasons."""

import inspect
import re

from tools.reference.pages import table
from transom import errors

_ENTRY = re.compile(r"^[\s│├└─]*(\w+Error)\s+(.+)$", re.M)


def error_table() -> str:
    """Return every type of error with what it is, what to do, and its exit code."""
    to_do = dict(_ENTRY.findall(errors.__doc__ or ""))
    rows = []
    for name, member in vars(errors).items():
        if inspect.isclass(member) and issubclass(member, errors.TransomError):
            first = inspect.cleandoc(member.__doc__ or "").partition("\n\n")[0]
            what = " ".join(first.split())
            rows.append((f"`{name}`", what, to_do[name], str(member.exit_code)))
    return table(("type", "what it is", "what to do", "exit code"), rows)


def exit_code_table() -> str:
    """Return the codes that a command ends with."""
    rows = [
        (str(errors.EXIT_DONE), "done"),
        (str(errors.EXIT_FAILED), "failed; what, and what to do, is on standard error"),
        (str(errors.EXIT_USAGE), "a wrong option or argument, or one that is missing"),
        (
            str(errors.EXIT_CONFIGURATION),
            "a configuration that cannot be used; the unit stays down",
        ),
        ("130", "stopped by Ctrl-C; nothing is left half-written"),
    ]
    return table(("code", "meaning"), rows)
