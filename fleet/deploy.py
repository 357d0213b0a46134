"""Carrying out a rollout: the bundle to the broker, wishes to devices, their reports back.

Nothing of a rollout is kept on the workstation. What is desired and the bundle's chunks lie at the
broker, and each device knows how far it is: the same command, given again, finds out and goes on.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.clock import Clock
from edge_runtime.link import Received
from fleet.depot import Depot, removal
from fleet.rollout import Course, Plan, Rollout
from fleet.roster import Member, read_roster
from fleet.session import Session
from transom.bundle import read_bundle
from transom.errors import MessageError
from transom.messages import Message, Topics, decode
from transom.updates import Desired, Install, ModelReport

Show = Callable[[Course], None]
"""Called with a device's course whenever it has changed."""

ShowSent = Callable[[float], None]
"""Called with the share of the bundle that is at the broker, 0 to 1."""

_TURN_S = 0.5


class Deployment:
    """One bundle on its way to devices.

    Args:
        session: The broker.
        clock: For time limits.
        bundle_file: The bundle; whether a device trusts its key, the device says.
        members: The devices.
        plan: How careful to be.
        url: Where devices fetch it from instead of the broker.

    Raises:
        BundleError: The file is no bundle.
    """

    def __init__(
        self,
        session: Session,
        clock: Clock,
        bundle_file: Path,
        members: list[Member],
        plan: Plan,
        url: str | None = None,
    ) -> None:
        self._session = session
        self._clock = clock
        self._depot = Depot(session, clock)
        self._data = bundle_file.read_bytes()
        bundle = read_bundle(bundle_file, None)
        self._wish = Install(
            request=secrets.token_hex(8),
            name=bundle.manifest.name,
            sequence=bundle.manifest.sequence,
            digest=bundle.digest,
            size_bytes=len(self._data),
            url=url,
        )
        self._requests = {self._wish.request}
        online = {member.device: member.is_online for member in members}
        self.rollout = Rollout(online, bundle.digest, plan)

    def send_bundle(self, show: ShowSent) -> None:
        """Bring the bundle to the broker, where devices fetch it from there.

        What earlier deployments have left there, and no device is to fetch, goes.

        Raises:
            TransomError: The broker does not take it.
        """
        self._depot.tidy()
        if self._wish.url is not None:
            return
        self._depot.send(self._data, self._wish, show)

    def run(self, show: Show) -> None:
        """Ask wave after wave until every device has decided or too many have failed.

        Raises:
            TransomError: The broker refuses something.
        """
        self._session.subscribe(Topics(self._session.prefix, "+").model_report)
        outages = self._session.outages
        while not self.rollout.is_over:
            self._ask(self.rollout.due())
            received = self._session.receive(_TURN_S)
            if received is not None:
                self._take(received, show)
            for course in self.rollout.check_time(self._clock.monotonic_s()):
                show(course)
            if self._session.outages != outages:  # what was told meanwhile nobody has heard
                outages = self._session.outages
                self._ask_again()
        self._tidy()

    def as_json(self) -> dict[str, Any]:
        """Return how it went, for scripts."""
        wish = self._wish
        courses = sorted(self.rollout.courses.values(), key=lambda course: course.device)
        return {
            "bundle": {"name": wish.name, "sequence": wish.sequence, "digest": wish.digest},
            "aborted": self.rollout.is_aborted,
            "counts": self.rollout.counts(),
            "devices": {
                course.device: {
                    "wave": course.wave,
                    "standing": course.standing,
                    "step": course.step,
                    "reason": course.reason,
                    "agreement": course.agreement,
                }
                for course in courses
            },
        }

    def _ask(self, courses: list[Course]) -> None:
        payload = msgspec.json.encode(self._wish)
        for course in courses:
            self._session.publish(Message(self._desired(course), payload, qos=1, retain=True))
            self.rollout.asked(course, self._clock.monotonic_s())

    def _ask_again(self) -> None:
        self._wish = msgspec.structs.replace(self._wish, request=secrets.token_hex(8))
        self._requests.add(self._wish.request)
        self._ask(list(self.rollout.undecided()))

    def _take(self, received: Received, show: Show) -> None:
        if not received.topic.endswith("/model/report"):
            return
        device = received.topic.split("/")[self._session.prefix.count("/") + 1]
        try:
            report = decode(received.payload, ModelReport, received.topic)
        except MessageError:
            return  # of a version that this one does not know; its silence will be noticed
        if report.digest != self._wish.digest:
            return
        course = self.rollout.told(device, report.step, report.reason, report.agreement)
        if course is not None:
            show(course)

    def _tidy(self) -> None:
        """Take back what must not or need not lie at the broker any more.

        Others may have asked the same devices for something else meanwhile, or other devices for
        the same bundle.
        """
        wishes = self._depot.wishes()
        for course in self.rollout.let_be():
            if self._must_go(wishes.get(course.device)):
                del wishes[course.device]
                self._session.publish(removal(self._desired(course)))
        members = read_roster(self._session)
        if not any(self._may_fetch(members.get(name), name, wishes[name]) for name in wishes):
            self._depot.remove(self._wish.digest, self._wish.chunks)
        for _ in self._session.flush():
            continue

    def _must_go(self, wish: Desired | None) -> bool:
        """Return whether a device must let a wish be that is not to be carried out any more."""
        is_same = isinstance(wish, Install) and wish.digest == self._wish.digest
        return self._is_ours(wish) or (is_same and self.rollout.is_aborted)

    def _is_ours(self, wish: Desired | None) -> bool:
        return wish is not None and wish.request in self._requests

    def _may_fetch(self, member: Member | None, device: str, wish: Desired | None) -> bool:
        """Return whether a device may still want the bundle from the broker."""
        if wish is None:
            return True
        if not isinstance(wish, Install) or wish.digest != self._wish.digest:
            return False
        if self._is_ours(wish):
            return any(course.device == device for course in self.rollout.undecided())
        model = None if member is None else member.model
        served = None if model is None else (model.title, model.installed_version)
        return served != (wish.name, str(wish.sequence))

    def _desired(self, course: Course) -> str:
        return Topics(self._session.prefix, course.device).model_desired
