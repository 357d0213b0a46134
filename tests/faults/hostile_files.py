"""Text files that are larger, deeper or stranger than a reader expects."""

from collections.abc import Callable

Make = Callable[[], bytes]


def toml_bombs(good: str) -> dict[str, Make]:
    """Return files that are no good TOML of their kind, by name.

    Args:
        good: A good file of the kind, to which more is added.
    """
    return {
        "arrays in arrays": lambda: b"x = " + b"[" * 100_000,
        "arrays in arrays, closed": lambda: b"x = " + b"[" * 5_000 + b"]" * 5_000,
        "tables in tables": lambda: b"x = " + b"{a=" * 50_000,
        "tables in tables, closed": lambda: b"x = " + b"{a=" * 400 + b"1" + b"}" * 400,
        "a key of 3,000 levels": lambda: b".".join([b"a"] * 3_000) + b" = 1",
        "a table of 3,000 levels": lambda: b"[" + b".".join([b"a"] * 3_000) + b"]",
        "a number of a million digits": lambda: b"x = " + b"9" * 1_000_000,
        "a hexadecimal number of a million digits": lambda: b"x = 0x" + b"f" * 1_000_000,
        "a float beyond all": lambda: b"x = 1e999999999",
        "a text of 8 MB": lambda: b'x = "' + b"a" * (8 << 20) + b'"',
        "20,000 keys": lambda: b"".join(b"k%d = 1\n" % i for i in range(20_000)),
        "10,000 tables": lambda: b"".join(b"[t%d]\n" % i for i in range(10_000)),
        "a key twice": lambda: b"x = 1\nx = 2",
        "a date that is none": lambda: b"x = 2026-02-31",
        "a NUL": lambda: good.encode() + b"\nx = \"\0\"",
        "no UTF-8": lambda: good.encode() + b'\nx = "\xff\xfe"',
        "UTF-16": lambda: good.encode("utf-16"),
        "a surrogate": lambda: good.encode() + b'\nx = "\\ud800"',
        "bytes": lambda: bytes(range(256)) * 100,
        "a terminal's commands": lambda: good.encode() + b'\n"\\u001b[2J\\u001b]0;x\\u0007" = 1',
        "a YAML with anchors": lambda: _yaml(),
    }  # fmt: skip


def csv_bombs() -> dict[str, Make]:
    """Return files that are no good `labels.csv`."""
    header = b"image,zone,group,split,state\n"
    return {
        "a cell of 32 MB": lambda: header + b'"' + b"a" * (32 << 20) + b'",,,,open\n',
        "a quote that is never closed": lambda: header + b'"' + b"a,\n" * 100_000,
        "100,000 columns": lambda: b"image,state" + b",c" * 100_000 + b"\n",
        "100,000 named columns": lambda: (
            b"image,state" + b"".join(b",c%d" % i for i in range(100_000)) + b"\n"
        ),
        "paths elsewhere": lambda: (
            header
            + b"".join(
                path + b",,,,open\n"
                for path in (b"/etc/passwd", b"../../x", b"a/../../x", b"\0", b"a\x00b.jpg")
            )
        ),
        "zones that are none": lambda: (
            header
            + b"".join(
                b"a.jpg," + zone + b",,,open\n"
                for zone in (b"nan " * 8, b"inf " * 8, b"1e309 " * 8, b"1 " * 100_000, b"-" * 1000)
            )
        ),
        "classes that are none": lambda: header + b"a.jpg,,,,\xf0\x9f\x9a\xaa\n" * 1000,
        "a million empty lines": lambda: header + b"\n" * 1_000_000,
        "carriage returns": lambda: header.replace(b"\n", b"\r") + b"a.jpg,,,,open\r" * 1000,
        "formulas": lambda: header + b"=cmd|' /C calc'!A0,,@SUM(1),,open\n",
        "no UTF-8": lambda: header + b"\xff\xfe,,,,open\n",
        "bytes": lambda: bytes(range(256)) * 100,
        "nothing": lambda: b"",
    }


def _yaml() -> bytes:
    """Return a YAML whose anchors name nine of the level before, nine levels deep."""
    lines = ["a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return (
        "\n".join([*lines, "names: *a9", "names: !!python/object/apply:os.system ['id']"])
    ).encode()
