"""What is asked of a mail, and what is found.

Owns the words of a report. Invariant: a report passes only when no rule fails and none was left unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from preferences.domain.vocabulary import MessageClass


class Result(StrEnum):
    """What became of one rule."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    UNCHECKED = "unchecked"
    NOT_APPLICABLE = "n/a"


class KeyUnknown(Exception):
    """Whether there is such a key could not be found out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says: the result, and one sentence on what to do."""

    result: Result
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is known about the mail besides its bytes.

    `keys` holds records of DKIM keys by their full name in small letters; `look_up` finds any other, gives None where
    there is none and raises KeyUnknown when it cannot tell. `address` is the postal address to look for. `local` allows
    links over http to this very machine, as in a trial.
    """

    message_class: MessageClass = MessageClass.MARKETING
    keys: Mapping[str, bytes] = field(default_factory=dict)
    look_up: Callable[[str], bytes | None] | None = None
    address: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule and what became of it."""

    rule: str
    title: str
    source: str
    result: Result
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """Every rule's finding, in the order of the rules."""

    findings: tuple[Finding, ...]

    def with_result(self, result: Result) -> list[str]:
        """The rules that ended so."""
        return [finding.rule for finding in self.findings if finding.result is result]

    @property
    def result(self) -> Result:
        """The mail as a whole."""
        if self.with_result(Result.FAIL):
            return Result.FAIL
        return Result.UNCHECKED if self.with_result(Result.UNCHECKED) else Result.PASS
