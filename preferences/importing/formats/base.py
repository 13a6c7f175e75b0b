"""Kinds of export files, with rules from their columns to ours. Each tool has a module of tables.

Invariants: an opt-in needs a line with a date and a source. Any line gives rows or BadExport, which holds no value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from preferences.domain.errors import PreferencesError
from preferences.domain.instants import NO_DATE, epoch_instant, parse_instant
from preferences.domain.vocabulary import BLANKET, Channel
from preferences.files.tables import ADDRESS_NAMES, plain_name, told_columns

LONGEST: Final = 500
"""Characters of evidence kept."""

_EMPTY: Final = {"", "[]", "null"}
_MARKUP: Final = re.compile(r"<[^<>]*>")
_NUMBER: Final = re.compile(r"[0-9]{9,16}(\.[0-9]+)?", re.ASCII).fullmatch
TRUE: Final = ("true", "yes", "1")
Fields = Mapping[str, str]

_EMAIL: Final = ADDRESS_NAMES[Channel.EMAIL]


class BadExport(PreferencesError):
    """Names the column and the remedy, never the value."""

    def __init__(self, column: str, why: str) -> None:
        self.column, self.why = column, why
        super().__init__(f"column {column}: {why}" if column else why)


def folded(name: str) -> str:
    return " ".join(name.split()).casefold()


_column_name = lru_cache(maxsize=4096)(folded)
"""Column names repeat on each line; values must not be cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The topic of a single list, and the topics of groups by name."""

    topic: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    list_name: str = ""

    def __post_init__(self) -> None:
        names = {folded(name): topic.strip() for name, topic in self.mapping.items()}
        object.__setattr__(self, "mapping", names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a line can state, the column and values that state it, and where its details are.

    Without `column` every line states it. `holds` and `lacks` match words in a column. `where` requires a value in a
    second column, `where_not` excludes some. `prefix`: each column with it is about a topic; `others`: each column but
    these; `names`: the column's text names the topic. `if_there`: the address may be absent.

    `at` is when it was stated; for an opt-out never when the record was created or changed: dated too early, it loses
    to an opt-in. With `several` topics on a line the time is one topic's, so opt-outs have none and count from the
    import.
    """

    status: str
    column: str = ""
    values: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    where: tuple[str, tuple[str, ...]] = ("", ())
    where_not: tuple[str, tuple[str, ...]] = ("", ())
    unless: tuple[str, ...] = ()
    everything: bool = False
    names: str = ""
    several: bool = False
    prefix: str = ""
    others: tuple[str, ...] = ()
    groups: bool = False
    at: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()
    channel: str = "email"
    address: tuple[str, ...] = ()
    if_there: bool = False

    def applies(self, fields: Fields) -> bool:
        (second, wanted), (other, unwanted) = self.where, self.where_not
        if any(_value(fields, name) for name in self.unless):
            return False
        if second and _plain(fields, second) not in wanted:
            return False
        if other and _plain(fields, other) in unwanted:
            return False
        return not self.column or self.says(folded(_value(fields, self.column)))

    def reads(self, name: str) -> bool:
        """`name` must be `folded`."""
        if (self.prefix and name.startswith(self.prefix)) or (self.others and name not in self.others):
            return True
        single = (self.column, self.where[0], self.names, *self.unless, *self.at, *self.source, *self.reason)
        return name in {folded(column) for column in (*single, *self.address) if column}

    def says(self, value: str) -> bool:
        if not value or value in self.but or (self.values and value not in self.values):
            return False
        words = set(re.findall(r"\w+", value))
        return not (self.holds and not words.intersection(self.holds)) and not words.intersection(self.lacks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A tool's kind of file: the columns that identify it, and its rules.

    Without `marks` it must be named. `known`: all values of a column; new ones are refused; `filled`: columns never
    empty; `also`: column names in other versions and languages. `epoch`: times may be seconds since 1970. `is_local`:
    times without a zone are in the user's. `nameless`: has lines without an address.
    """

    name: str
    address: tuple[str, ...]
    marks: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    evidence: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    epoch: bool = False
    is_local: bool = False
    nameless: bool = False
    title: str = ""

    @property
    def tells_a_no(self) -> bool:
        return any(rule.status != "subscribed" for rule in self.rules)

    def columns(self, header: Sequence[str]) -> list[str]:
        """The header in the names that `rows` uses."""
        names = [folded(name) for name in header]
        for column, others in self.also.items():
            if folded(column) not in names:
                names = _renamed(names, column, next((name for name in names if name in others), ""))
        if not {folded(name) for name in self.address}.intersection(names):
            first = next((plain_name(name) for name in names if plain_name(name) in _EMAIL), "")
            names = [folded(self.address[0]) if first and plain_name(name) == first else name for name in names]
        return names

    def check_columns(self, names: Sequence[str], options: Options) -> None:
        """Raises BadExport for a repeated column that this kind reads."""
        for number, name in enumerate(names, start=1):
            if name in names[: number - 1] and self._reads(name, options):
                raise BadExport(str(number), f"{name} is there twice; take out, or rename, the wrong column")

    def _reads(self, name: str, options: Options) -> bool:
        single = (*self.address, *self.evidence, *self.filled, *self.known)
        groups = {column.partition("/")[0].strip() for column in options.mapping}
        return (
            name in {folded(column) for column in single}
            or any(rule.reads(name) for rule in self.rules)
            or (name in groups and any(rule.groups for rule in self.rules))
        )

    def missing(self, header: Sequence[str]) -> str:
        """The first required column that is missing."""
        names = set(self.columns(header))
        absent = [name for name in (*self.marks, *self.needs) if folded(name) not in names]
        if not any(folded(name) in names for name in self.address):
            absent.insert(0, self.address[0])
        return absent[0] if absent else ""

    def rows(self, line: Mapping[str, str], options: Options) -> list[dict[str, str]]:
        """A line's facts, or only its contact. Raises BadExport."""
        fields = {_column_name(name): value for name, value in line.items()}
        address = _first(fields, self.address)
        self._check_values(fields)
        proof = self._proof(fields, options)
        found = [
            row for rule in self.rules if rule.applies(fields) for row in self._told(rule, fields, options, proof=proof)
        ]
        if not address and not found and not self.nameless:
            raise BadExport(self.address[0], "is empty")
        if address and not any(row["channel"] == "email" for row in found):
            found.insert(0, {"address": address, "channel": "email"})
        return found

    def _check_values(self, fields: Fields) -> None:
        for column in self.filled:
            if not _value(fields, column):
                raise BadExport(column, "is empty")
        for column, values in self.known.items():
            if folded(_value(fields, column)) not in values:
                raise BadExport(column, f"must be one of {', '.join(value or 'nothing' for value in values)}")

    def _told(self, rule: Rule, fields: Fields, options: Options, *, proof: str) -> Iterator[dict[str, str]]:
        at, source = self._instant(rule, fields), _first(fields, rule.source)
        if rule.status == "subscribed" and not (at and source):
            return
        columns = rule.address or self.address
        address = _first(fields, columns)
        if not address:
            if rule.if_there or (self.nameless and any(_column_name(name) in fields for name in columns)):
                return
            raise BadExport(columns[0], "is empty")
        topics = _topics(rule, fields, options)
        if rule.several and len(topics) > 1:
            at = ""
        for topic in topics:
            row = {
                "address": address,
                "channel": rule.channel,
                "topic": topic,
                "status": rule.status,
                "occurred_at": at,
                "source": (f"{self.title}: {source}" if source else f"{self.title} export")[:LONGEST],
                "reason": _first(fields, rule.reason)[:LONGEST],
                "evidence": proof,
            }
            yield {name: value for name, value in row.items() if value}

    def _instant(self, rule: Rule, fields: Fields) -> str:
        """The first time, in UTC. A date alone is its start for an opt-in, its end for an opt-out."""
        column = next((name for name in rule.at if _value(fields, name)), "")
        text = _value(fields, column)
        if not text or text.startswith(NO_DATE):
            return ""
        try:
            found = epoch_instant(text) if self.epoch and _NUMBER(text) else parse_instant(text, is_local=self.is_local)
        except ValueError as error:
            raise BadExport(column, str(error)) from None
        return (found.earliest if rule.status == "subscribed" else found.latest).isoformat()

    def _proof(self, fields: Fields, options: Options) -> str:
        pairs = [(folded(name).replace(" ", "_"), _value(fields, name)) for name in self.evidence]
        pairs.append(("list", options.list_name))
        return "; ".join(f"{name}={value}" for name, value in pairs if value)[:LONGEST]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    name: str
    title: str
    kinds: tuple[Kind, ...]

    def matches(self, header: Sequence[str]) -> list[Kind]:
        """The matching kinds with the most required columns."""
        shown = [kind for kind in self._shown(header) if not self._passed_over(kind, header)]
        most = max((len(kind.marks) for kind in shown), default=0)
        return [kind for kind in shown if len(kind.marks) == most]

    def _shown(self, header: Sequence[str]) -> list[Kind]:
        return [kind for kind in self.kinds if kind.marks and not kind.missing(header)]

    def _passed_over(self, kind: Kind, header: Sequence[str]) -> str:
        """A kind whose columns are all there, and whose opt-outs `kind` would miss."""
        marks = set(kind.marks)
        return next(
            (
                other.name
                for other in self._shown(header)
                if other.tells_a_no and not marks.issuperset(other.marks)
                if marks and (not kind.rules or marks.issubset(other.marks))
            ),
            "",
        )

    def kind_of(self, header: Sequence[str], kind_name: str = "") -> Kind:
        """The named kind, or else the header's."""
        if kind_name:
            return self._named(header, kind_name)
        found = self.matches(header)
        if len(found) == 1:
            return found[0]
        if not found:
            kinds = ", ".join(f"{self.name}:{kind.name}" for kind in self.kinds)
            raise BadExport(
                "",
                f"the header is none of {self.title}'s; if it is one of them, name it: {kinds}; {told_columns(header)}",
            )
        names = " or ".join(f"{self.name}:{kind.name}" for kind in found)
        raise BadExport("", f"the header does not tell what kind of file this is; say --from {names}")

    def _named(self, header: Sequence[str], kind_name: str) -> Kind:
        kind = next((kind for kind in self.kinds if kind.name == kind_name), None)
        if kind is None:
            raise BadExport("", f"the kinds of {self.title} are {', '.join(kind.name for kind in self.kinds)}")
        if absent := kind.missing(header):
            raise BadExport(
                absent,
                f"is not there; {self.title} exports it with {kind.name}; {told_columns(header)}."
                " If it has another name, rename it, or export with English column names; --column names that of the"
                " addresses",
            )
        if other := self._passed_over(kind, header):
            raise BadExport("", f"the columns are those of {self.name}:{other}, not of {kind.name}; say --from that")
        return kind


def _renamed(names: list[str], column: str, found: str) -> list[str]:
    return [folded(column) if name == found else name for name in names] if found else names


def make(name: str, title: str, kinds: Iterable[Kind], *, epoch: bool = False) -> Format:
    """`epoch`: the tool writes times as numbers."""
    return Format(name=name, title=title, kinds=tuple(replace(kind, title=title, epoch=epoch) for kind in kinds))


def _value(fields: Fields, column: str) -> str:
    value = fields.get(_column_name(column), "").strip() if column else ""
    return "" if value in _EMPTY else value


def _plain(fields: Fields, column: str) -> str:
    """Mautic's reports wrap values in a link."""
    return folded(_MARKUP.sub("", _value(fields, column)))


def _first(fields: Fields, columns: Iterable[str]) -> str:
    return next((value for name in columns if (value := _value(fields, name))), "")


def _topics(rule: Rule, fields: Fields, options: Options) -> list[str]:
    """None for a suppression, which is about the address."""
    if rule.status not in {"subscribed", "unsubscribed"}:
        return [""]
    topics = _chosen(rule, fields, options)
    if rule.status == "subscribed" and BLANKET in topics:
        raise BadExport("", "nobody subscribes to everything: give one topic for each list")
    return topics


def _chosen(rule: Rule, fields: Fields, options: Options) -> list[str]:
    if rule.everything:
        return [BLANKET]
    if rule.prefix or rule.others:
        return _by_column(rule, fields, options)
    if rule.names:
        text = _value(fields, rule.names)
        return [_mapped(name, rule.names, options) for name in (_names(text) if rule.several else [text or BLANKET])]
    groups = _by_group(fields, options) if rule.groups else []
    if rule.groups and options.mapping and not options.topic:
        return groups
    if not options.topic:
        raise BadExport("", "the file is one list: say with --topic which topic that is")
    return list(dict.fromkeys([options.topic, *groups]))


def _by_column(rule: Rule, fields: Fields, options: Options) -> list[str]:
    names = [name for name in fields if name.startswith(rule.prefix) and name not in rule.others]
    told = [name for name in names if rule.says(folded(_value(fields, name))) or _is_new(rule, name, fields, options)]
    return [_mapped(name.removeprefix(rule.prefix), name, options) for name in told]


def _is_new(rule: Rule, name: str, fields: Fields, options: Options) -> bool:
    """Whether a topic's column has an unknown value, which must not allow mail.

    Of `others`, only columns mapped to a topic are known to be about one.
    """
    value = folded(_value(fields, name))
    return bool(rule.others and name in options.mapping and value and value not in rule.but)


def _by_group(fields: Fields, options: Options) -> list[str]:
    """Mappings are named COLUMN/GROUP, with commas in a group's name escaped by a backslash."""
    found = []
    for name, topic in options.mapping.items():
        column, slash, group = name.partition("/")
        groups = re.split(r"(?<!\\),", fields.get(column.strip(), ""))
        if slash and group.strip() in {folded(name.replace("\\,", ",")) for name in groups}:
            found.append(topic)
    return found


def _names(text: str) -> list[str]:
    """None means everything; else a JSON list, or names separated by commas."""
    if not text:
        return [BLANKET]
    if text.startswith("["):
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            return [text]
        return [str(name) for name in names] if isinstance(names, list) else [text]
    return [name for name in text.split(",") if name.strip()] or [BLANKET]


def _mapped(name: str, column: str, options: Options) -> str:
    if name.strip() == BLANKET:
        return BLANKET
    topic = options.mapping.get(folded(name))
    if not topic:
        raise BadExport(column, 'the name has no topic; give it one with --map "NAME=TOPIC", or * for everything')
    return topic
