"""Options and results of a check. Invariant: a report passes only if no rule fails and none was left unchecked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from preferences.domain.vocabulary import MessageClass


class Result(StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    UNCHECKED = "unchecked"
    NOT_APPLICABLE = "n/a"


class KeyUnknown(Exception):
    """The lookup of a key failed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a rule, and a sentence on what to do."""

    result: Result
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`keys` maps full names in lower case to DKIM records; `look_up` finds others, returns None if there is none and
    raises KeyUnknown on failure. `address` is the postal address. `local` allows http links to this machine.
    """

    message_class: MessageClass = MessageClass.MARKETING
    keys: Mapping[str, bytes] = field(default_factory=dict)
    look_up: Callable[[str], bytes | None] | None = None
    address: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    rule: str
    title: str
    source: str
    result: Result
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """The findings in the order of the rules."""

    findings: tuple[Finding, ...]

    def with_result(self, result: Result) -> list[str]:
        return [finding.rule for finding in self.findings if finding.result is result]

    @property
    def result(self) -> Result:
        if self.with_result(Result.FAIL):
            return Result.FAIL
        return Result.UNCHECKED if self.with_result(Result.UNCHECKED) else Result.PASS
