"""What is said over MQTT of the keys that a device trusts: followed, and answered."""

import logging

from edge_runtime.clock import Clock
from edge_runtime.complaints import Complaints
from edge_runtime.keyring import Keyring
from edge_runtime.link import Received
from edge_runtime.update_reports import UpdateReports
from transom.config import ModelsConfig
from transom.errors import MessageError, SignatureError

_log = logging.getLogger(__name__)


class KeyStatements:
    """Follows each statement that a recovery key's holder has signed.

    Args:
        config: Where keys and statements are.
        reports: Told which keys count.
        clock: For the pace of warnings.
    """

    def __init__(self, config: ModelsConfig, reports: UpdateReports, clock: Clock) -> None:
        self._keyring = Keyring(config)
        self._reports = reports
        self._clock = clock
        self._complaints = Complaints(_log)

    @property
    def are_wanted(self) -> bool:
        """Whether the device has a recovery key, without which nobody may state anything."""
        return self._keyring.may_change

    def take(self, received: Received) -> None:
        """Follow a statement, or say why not; a bundle under way is verified by the new keys."""
        if not received.payload:
            return
        try:
            self._keyring.take(received.payload, received.topic)
        except (SignatureError, MessageError, OSError) as error:
            self._complaints.say(
                "keys are not replaced", received.topic, error, self._clock.monotonic_s()
            )
            self.show(str(error))
        else:
            self.show()

    def show(self, refused: str = "") -> None:
        """Tell which keys count; `refused` = why a statement was not followed."""
        try:
            trusted = self._keyring.trusted()
        except SignatureError as error:
            trusted, refused = (), refused or str(error)
        self._reports.keys(self._keyring.sequence(), trusted, refused)
