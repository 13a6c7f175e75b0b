"""Checks a mail against the rules for mail with an unsubscribe link.

Invariants: any bytes give findings, never an error; nothing is fetched but DKIM keys, by the caller's function.
"""

from __future__ import annotations

from preferences.checks.lint.findings import Finding, Options, Report, Result, Verdict
from preferences.checks.lint.reading import MOST_BYTES, Unreadable, read_mail
from preferences.checks.lint.rules import RULES, Rule

__all__ = ["MOST_BYTES", "RULES", "Finding", "Options", "Report", "Result", "lint"]

READABLE = Rule("M-00", "The mail can be read, From included", "RFC 5322", lambda _mail, _options: None)


def lint(raw: bytes, options: Options) -> Report:
    try:
        mail = read_mail(raw)
    except Unreadable as error:
        unseen = Verdict(Result.NOT_APPLICABLE, "The mail could not be read.")
        first = _finding(READABLE, Verdict(Result.FAIL, str(error)))
        return Report((first, *(_finding(rule, unseen) for rule in RULES)))
    fault = mail.fault_of_sender
    said = Verdict(Result.FAIL, fault) if fault else Verdict(Result.PASS, "The mail can be read.")
    first = _finding(READABLE, said)
    return Report((first, *(_finding(rule, rule.check(mail, options)) for rule in RULES)))


def _finding(rule: Rule, verdict: Verdict | None) -> Finding:
    said = verdict or Verdict(Result.NOT_APPLICABLE, "Does not apply to a mail of this class.")
    return Finding(rule=rule.id, title=rule.title, source=rule.source, result=said.result, text=said.text)
