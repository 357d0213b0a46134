"""Questions to a person at a terminal, or the answers that the command line gives."""

import shlex
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from edge_runtime.redaction import redact
from transom.errors import TransomError
from transom.printable import printable

_Answer = TypeVar("_Answer")


class Talk:
    """Asks, and remembers as options what was answered, so that an interrupted setup can go on.

    Args:
        is_asking: Whether there is somebody to ask; otherwise what is proposed is taken.
    """

    def __init__(self, *, is_asking: bool) -> None:
        self.is_asking = is_asking
        self.given: list[str] = []
        """What was answered, as the options that say the same."""

    def say(self, text: str = "") -> None:
        """Tell something; on standard error, where scripts do not look for data."""
        click.echo("\n".join(map(printable, text.split("\n"))), err=True)

    def ask(
        self,
        question: str,
        option: str,
        read: Callable[[str], _Answer],
        proposal: str | None = None,
        given: str | None = None,
        *,
        is_noted: bool = True,
    ) -> _Answer:
        """Return an answer: what the command line gave, else a person's, else the proposal.

        Args:
            question: Ends without a mark.
            option: That gives the same answer.
            read: Returns what an answer means, or raises ValueError with what is wrong.
            proposal: Taken for an empty answer; None = there is none.
            given: The option's value; None = not given.
            is_noted: Whether the option is remembered with the answer as it was typed.

        Raises:
            TransomError: There is nobody to ask and nothing is proposed, or what is given is wrong.
        """
        if given is None and self.is_asking:
            answered, found = self._ask(question, read, proposal)
            self.note(*((option, answered) if is_noted else ()))
            return found
        answer = proposal if given is None else given
        if answer is None:
            raise TransomError(f"{question}? give {option}, or answer at a terminal without --yes")
        try:
            return read(answer)
        except ValueError as error:
            raise TransomError(f"{option} {redact(answer)}: {error}") from error

    def _ask(
        self, question: str, read: Callable[[str], _Answer], proposal: str | None
    ) -> tuple[str, _Answer]:
        while True:
            answer: str = click.prompt(
                question, default=proposal, err=True, show_default=bool(proposal)
            )
            try:
                return answer.strip(), read(answer.strip())
            except ValueError as error:
                self.say(f"  {error}")

    def agree(self, question: str, *, proposal: bool, option: str = "") -> bool:
        """Return whether a person says yes; the proposal where there is nobody to ask."""
        if not self.is_asking:
            return proposal
        answer = click.confirm(question, default=proposal, err=True)
        if answer and option:
            self.note(option)
        return answer

    def choose(self, question: str, choices: Sequence[str], proposal: str) -> str:
        """Return one of the choices; the proposal where there is nobody to ask."""
        if not self.is_asking:
            return proposal
        kind = click.Choice(list(choices), case_sensitive=False)
        answer: str = click.prompt(question, type=kind, default=proposal, err=True)
        return answer

    def secret(self, question: str) -> str:
        """Return what is typed without being shown; empty where there is nobody to ask."""
        if not self.is_asking:
            return ""
        answer: str = click.prompt(
            question, default="", hide_input=True, show_default=False, err=True
        )
        return answer

    def line(self, question: str) -> str:
        """Return a line as it was typed; empty for none."""
        answer: str = click.prompt(question, default="", show_default=False, err=True)
        return answer.strip()

    def note(self, *option: str) -> None:
        """Remember an answer as the option that gives it."""
        self.given.extend(word for word in option if word)

    def how_to_go_on(self) -> str:
        """Return the command that gives the answers so far again; no secret is among them."""
        return shlex.join(["transom", "setup", *self.given])
