"""What the daemon tells the page's process at its start, and that one at its end."""

import msgspec

from edge_runtime.web.access import Access

HAS_NEW_CERTIFICATE = 3
"""Exit status of a process whose certificate was replaced: the next one shows the new one."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon wants, the one line on standard input.

    Attributes:
        access: Who may ask.
        listener: Descriptor of the listening socket.
        channel: Descriptor of the socket to the daemon.
        certificate: File of the certificate, and of its key; None = no TLS.
        parent: Process with which this one ends.
    """

    access: Access
    listener: int
    channel: int
    certificate: tuple[str, str] | None
    parent: int
