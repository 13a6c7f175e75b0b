"""Other tools' exports, translated to our columns.

Invariants: a format makes no opt-in that the export does not prove, drops no opt-out, and raises only BadExport, which
holds no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from preferences.importing.formats import (
    amazon_ses,
    hubspot,
    klaviyo,
    listmonk,
    mailchimp,
    mailgun,
    mautic,
    postmark,
    sendgrid,
)
from preferences.importing.formats.base import BadExport, Format, Kind, Options
from preferences.importing.formats.json_files import read_json

__all__ = [
    "FORMATS",
    "BadExport",
    "Format",
    "Kind",
    "Options",
    "kind_of",
    "read_json",
    "recognise",
]

_MODULES: Final = (mailchimp, sendgrid, mailgun, postmark, amazon_ses, klaviyo, hubspot, listmonk, mautic)
FORMATS: Final[Mapping[str, Format]] = {module.FORMAT.name: module.FORMAT for module in _MODULES}


def kind_of(tool: str, header: Sequence[str]) -> Kind:
    """For `--from`, such as `sendgrid` or `sendgrid:blocks`. Raises BadExport."""
    name, _, kind = tool.strip().lower().partition(":")
    found = FORMATS.get(name)
    if found is None:
        raise BadExport("", f"--from must be one of {', '.join(FORMATS)}")
    return found.kind_of(header, kind)


def recognise(header: Sequence[str]) -> str:
    """The tool with this header; empty if none or several."""
    marks = {name: len(found[0].marks) for name, tool in FORMATS.items() if (found := tool.matches(header))}
    best = [name for name, count in marks.items() if count == max(marks.values())]
    return best[0] if len(best) == 1 else ""
