#!/usr/bin/env python3
"""Verifies Countersign audit folders. It shares no code with the program, so that the two can disagree.

Read from top to bottom: what is found, protobuf, the Merkle tree, keys and signed notes, a log's folder, approvals, the
control log, decision logs, the command line. Not checked: the approvals database, and what the policies would say.
Exit codes: 0 intact, 1 tampering, 2 incomplete, 3 usage.
"""

import argparse
import base64
import contextlib
import hashlib
import itertools
import json
import re
import struct
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BUNDLE, BUNDLE_LEVEL = 256, 8
MAX_RECORD, MAX_BUNDLE, MAX_FILE, MAX_TAR = 1 << 24, 1 << 28, 1 << 30, 1 << 36
MAX_FINDINGS = 1000
SILENCE = 120_000_000  # Microseconds: a replica that runs is heard of within them.
NEWER, LAST_KIND = "newer version", 14

# ---- What is found ----


class Usage(Exception):
    """What was asked for cannot be done."""


class Wrong(Exception):
    """The data is not what it has to be; `kind` is the finding's name."""

    def __init__(self, what: str, kind: str = "damaged") -> None:
        super().__init__(what)
        self.kind = kind


def need(condition: bool, what: str, kind: str = "damaged") -> None:
    """Stops looking at this piece of data unless `condition` holds."""
    if not condition:
        raise Wrong(what, kind)


def clean(text: object) -> str:
    """A text from the data: not too long, and nothing in it can steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:300])


@dataclass(frozen=True)
class Finding:
    """Something that was found, and where."""

    kind: str
    where: str
    what: str


@dataclass
class Report:
    """Everything that was found. Tampering outweighs what is missing; notes change nothing."""

    tampered: list[Finding] = field(default_factory=list)
    incomplete: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    logs: list[dict[str, str | int]] = field(default_factory=list)
    approvals: dict[str, int] = field(default_factory=dict)

    def add(self, to: list[Finding], kind: str, where: str, what: object) -> None:
        """Keeps a finding, if there are not too many yet."""
        if len(to) < MAX_FINDINGS:
            to.append(Finding(kind, clean(where), clean(what)))

    def absorb(self, other: "Report") -> None:
        """Takes over all that another report has found."""
        self.tampered += other.tampered
        self.incomplete += other.incomplete
        self.notes += other.notes
        self.logs += other.logs
        self.heads = other.heads or self.heads
        self.approvals = other.approvals or self.approvals

    @contextlib.contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Whatever goes wrong with the data in here is tampering, never a traceback."""
        try:
            yield
        except Usage:
            raise
        except Wrong as wrong:
            self.add(self.incomplete if wrong.kind == NEWER else self.tampered, wrong.kind, where, wrong)
        except Exception as error:  # noqa: BLE001
            self.add(self.tampered, "damaged", where, f"{type(error).__name__}: {error}")

    def verdict(self) -> str:
        """The one word."""
        return "tampered" if self.tampered else "incomplete" if self.incomplete else "intact"


# ---- Protobuf ----


class Message:
    """The fields of a protobuf message, by number."""

    def __init__(self, data: bytes) -> None:
        self.fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(data):
            tag, at = self.varint(data, at)
            value: int | bytes
            if tag & 7 == 0:
                value, at = self.varint(data, at)
            else:
                length, at = self.varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}.get(tag & 7, -1), at)
                need(0 <= length <= len(data) - at and tag >> 3 > 0, "not a protobuf message", "not a record")
                value, at = data[at : at + length], at + length
            self.fields.setdefault(tag >> 3, []).append(value)

    @staticmethod
    def varint(data: bytes, at: int) -> tuple[int, int]:
        """An integer, 7 bits a byte, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            need(at < len(data), "a number is cut off", "not a record")
            value, at = value | (data[at] & 127) << shift, at + 1
            if data[at - 1] < 128:
                break
        need(value < 1 << 64, "a number of more than 64 bits", "not a record")
        return value, at

    def number(self, number: int) -> int:
        """An integer; 0 if it is not there. The last one counts."""
        value = self.fields.get(number, [0])[-1]
        need(isinstance(value, int), f"field {number} is no number", "not a record")
        return int(value)

    def signed(self, number: int) -> int:
        """An int64: negative ones are stored as two's complement."""
        value = self.number(number)
        return value - (1 << 64) if value >> 63 else value

    def all(self, number: int) -> list[bytes]:
        """Every value of a field that has bytes."""
        values = [value for value in self.fields.get(number, []) if isinstance(value, bytes)]
        need(len(values) == len(self.fields.get(number, [])), f"field {number} has no bytes", "not a record")
        return values

    def data(self, number: int) -> bytes:
        """Bytes; none if they are not there."""
        return (self.all(number) or [b""])[-1]

    def text(self, number: int) -> str:
        """A text; empty if it is not there."""
        return self.data(number).decode()

    def one(self, number: int) -> "Message":
        """A message; empty if it is not there, and merged if it is there in pieces."""
        return Message(b"".join(self.all(number)))

    def many(self, number: int) -> list["Message"]:
        """Repeated messages."""
        return [Message(each) for each in self.all(number)]

    def which(self, names: dict[int, str]) -> tuple[str, "Message"]:
        """The one field of a `oneof` that is set."""
        found = [number for number in names if number in self.fields]
        need(len(found) == 1, f"{len(found)} of {', '.join(names.values())} are set", "not a record")
        return names[found[0]], self.one(found[0])


# ---- The Merkle tree (RFC 6962) ----


def sha256(*parts: bytes) -> bytes:
    """SHA-256 over the parts, one after another."""
    return hashlib.sha256(b"".join(parts)).digest()


class Tree:
    """The roots of the whole subtrees on the right edge, with their levels: enough to go on, and for the root."""

    def __init__(self) -> None:
        self.size, self.nodes, self.bundle = 0, list[tuple[int, bytes]](), b""

    def push(self, level: int, node: bytes) -> None:
        """Appends a leaf's hash (level 0), or that of 256 leaves (level 8)."""
        self.size += 1 << level
        while self.nodes and self.nodes[-1][0] == level:
            node, level = sha256(b"\1", self.nodes.pop()[1], node), level + 1
            self.bundle = node if level == BUNDLE_LEVEL else self.bundle
        self.nodes.append((level, node))

    def root(self) -> bytes:
        """The root over everything so far."""
        if not self.nodes:
            return sha256()
        node = self.nodes[-1][1]
        for _, left in reversed(self.nodes[:-1]):
            node = sha256(b"\1", left, node)
        return node


# ---- Keys and signed notes (C2SP vkey, signed-note, tlog-checkpoint) ----


def unbase64(text: str) -> bytes:
    """Decodes base64 that is written in the one right way."""
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64 with stray bits")
    return data


@dataclass(frozen=True)
class Key:
    """A verifier key: NAME+ID+BASE64, where the id is the begin of a hash over the name and the key."""

    text: str
    name: str
    id: bytes
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Reads a verifier key."""
        need(len(text) <= 1000 and re.fullmatch(r"[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", text) is not None, "no key")
        name, key_id, encoded = text.split("+", 2)
        public = unbase64(encoded)
        need(len(public) == 33 and public[0] == 1, "not an Ed25519 key")
        need(sha256(name.encode(), b"\n", public)[:4].hex() == key_id, "the key's id is not that of the key")
        return cls(text, name, bytes.fromhex(key_id), public[1:])

    def has_signed(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature over the message is by this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


Keys = list[tuple[int, Key]]  # Each with the index of the record that added it.


@dataclass(frozen=True)
class Note:
    """A signed checkpoint: that the first `size` records of the log `origin` have the root `root`."""

    origin: str
    size: int
    root: bytes
    text: bytes
    signatures: list[tuple[str, bytes]]

    def signers(self, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys that signed. One at least, and no wrong signature by any of them; others say nothing."""
        signers = []
        for key in keys:
            for name, signature in self.signatures:
                if (key.name, key.id) == (name, signature[:4]):
                    need(key.has_signed(signature[4:], self.text), "a signature is wrong", "bad signature")
                    signers.append(key)
        need(bool(signers), "no key that may sign it has signed it", "unknown key")
        return signers


NOTE = re.compile(
    rb"([^\n]+\n(?:0|[1-9][0-9]{0,18})\n[A-Za-z0-9+/=]{44}\n)\n((?:\xe2\x80\x94 [^ \n]+ [A-Za-z0-9+/=]+\n)+)(?:\n|\Z)"
)


TORN = re.compile(
    rb"[^\n]+(\n[0-9]*(\n[A-Za-z0-9+/=]*(\n(\n(\xe2\x80\x94 [^ \n]+ [A-Za-z0-9+/=]+\n)*"
    rb"(\xe2?\x80?\x94? ?[^\n]*)?)?)?)?)?"
)


def read_heads(report: Report, data: bytes, origin: str) -> list[Note]:
    """The notes of the log `origin`. Where a crash cut one off, the next line that is the origin begins another."""
    name = origin.encode() or data.split(b"\n", 1)[0]
    notes, at = list[Note](), 0
    while at < len(data):
        match = NOTE.match(data, at)
        found, _ = read_notes(match[0]) if match else ([], False)
        if match and found:
            notes += [note for note in found if note.origin.encode() == name]
            at = match.end()
            continue
        follows = data.find(b"\n" + name + b"\n", at)
        junk = data[at : follows + 1 if follows >= 0 else len(data)]
        at += len(junk)
        # Alone, or with the next one behind it in the same line.
        cuts = [len(junk), *(each.start() for each in re.finditer(re.escape(name), junk) if each.start())]
        is_torn = any(TORN.fullmatch(junk[:cut]) and (junk + name).startswith(name[:cut]) for cut in cuts)
        to = report.notes if is_torn else report.tampered
        report.add(to, "torn head" if is_torn else "unreadable head", "heads", "a head is cut off or is none")
    return sorted(notes, key=lambda note: note.size)


def read_notes(data: bytes) -> tuple[list[Note], bool]:
    """The notes of a file, and whether a last one is torn: it ends before its signature's line does."""
    notes, at = [], 0
    while match := NOTE.match(data, at):
        origin, size, root = match[1].decode().split("\n")[:3]
        lines = [line.split(" ") for line in match[2].decode().splitlines()]
        notes.append(Note(origin, int(size), unbase64(root), match[1], [(name, unbase64(s)) for _, name, s in lines]))
        at = match.end()
    need(data.count(b"\n", at) <= 4, f"no signed checkpoint at byte {at}")
    return notes, at < len(data)


# ---- A log's folder ----


CRC = list(range(256))  # What each byte does to a CRC32C.
for _ in range(8):
    CRC = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in CRC]


def crc32c(data: bytes) -> int:
    """The checksum (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def read_file(path: Path) -> bytes:
    """A whole file of a bounded length."""
    need(path.is_file(), f"{path.name} is not there", "missing file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    need(len(data) <= MAX_FILE, f"{path.name} is too long")
    return data


class Log:
    """One log folder. Opening it reads all but the segments; these are read when the records are walked through."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        # Signed before written: the log may grow meanwhile.
        self.notes, self.is_torn = read_notes(read_file(path / "checkpoints"))
        self.keys = read_file(path / "key").decode()
        for _ in range(16):
            hashes = read_file(path / "hashes")
            tail = read_file(path / "tail")
            # A bundle that is completed in between takes its records out of the tail.
            if len(read_file(path / "hashes")) // 32 == len(hashes) // 32:
                break
        self.hashes = [hashes[at : at + 32] for at in range(0, len(hashes) - 31, 32)]
        self.bundled = BUNDLE * len(self.hashes)
        names = [each.name for each in path.iterdir() if each.is_file()]
        firsts = sorted(int(name[:20]) for name in names if re.fullmatch(r"[0-9]{20}\.seg", name))
        # One that was begun since belongs to what comes later.
        self.segments = [each for each in firsts if each < self.bundled]
        self.first = min(self.segments, default=self.bundled)
        is_behind = min(firsts, default=0) > self.bundled
        need(self.first % BUNDLE == 0 and not is_behind, "the first segment lies behind the hashes")
        self.tail = self.read_tail(tail)
        self.size = self.bundled + len(self.tail)

    def read_tail(self, data: bytes) -> list[bytes]:
        """The records behind the last bundle, up to the first frame that does not fit. Bundled ones are skipped."""
        need(data[:8] == b"CSTAIL\x01\0", "the tail's header is wrong")
        found: list[bytes] = []
        at, follows = 8, None
        while at + 17 <= len(data):
            kind, index, length, crc = struct.unpack_from("<BQII", data, at)
            payload = data[at + 17 : at + 17 + length]
            if length > MAX_RECORD or len(payload) < length or crc32c(data[at : at + 13] + payload) != crc:
                break
            if kind == 1 and (follows is None or index == follows):
                need(index <= self.bundled + len(found), f"records {self.bundled} to {index} are gone")
                found += [payload] if index >= self.bundled else []
                follows = index + 1
            elif kind != 2 or length > 0:
                break
            at += 17 + length
        return found

    def leaves(self) -> Iterator[bytes]:
        """The records that are still there, in order."""
        at = self.first
        for first, following in itertools.pairwise([*self.segments, self.bundled]):
            need(at == first, f"the segment with record {at} is not there", "missing segment")
            with (self.path / f"{first:020}.seg").open("rb") as file:
                need(file.read(16) == b"CSSEG\x01\0\0" + struct.pack("<Q", first), f"segment {first}: wrong header")
                while at < following:
                    length, crc = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
                    frame = file.read(min(length, MAX_BUNDLE))
                    need(len(frame) == length and crc32c(frame) == crc, f"the bundle of record {at} is damaged")
                    yield from self.unpack(frame)
                    at += BUNDLE
                need(following == self.bundled or not file.read(1), f"segment {first} goes on behind its end")
        need(at == self.bundled, f"the segment with record {at} is not there", "missing segment")
        yield from self.tail

    @staticmethod
    def unpack(frame: bytes) -> list[bytes]:
        """The 256 records of a bundle."""
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(frame) as reader:
            data = reader.read(MAX_BUNDLE + 1)
        need(len(data) <= MAX_BUNDLE, "a bundle is too long")
        records, at = [], 0
        for _ in range(BUNDLE):
            (length,) = struct.unpack_from("<I", data, at)
            need(length <= len(data) - at - 4, "a bundle is cut off")
            records.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        need(at == len(data), "a bundle has more than 256 records")
        return records

    def walk(self, sizes: set[int], visit: Callable[[int, bytes], None]) -> dict[int, bytes]:
        """Shows every record to `visit`, and answers the roots at those of `sizes` that can be computed."""
        tree, roots = Tree(), {0: sha256()}
        for node in self.hashes[: self.first // BUNDLE]:
            tree.push(BUNDLE_LEVEL, node)
            roots |= {tree.size: tree.root()} if tree.size in sizes else {}
        for index, leaf in enumerate(self.leaves(), self.first):
            visit(index, leaf)
            tree.push(0, sha256(b"\0", leaf))
            if tree.size % BUNDLE == 0 and tree.size <= self.bundled:
                need(tree.bundle == self.hashes[index // BUNDLE], f"`hashes` differs at record {index}", "wrong hash")
            roots |= {tree.size: tree.root()} if tree.size in sizes else {}
        return roots

    def sizes(self) -> set[int]:
        """The sizes that somebody may ask for a root of: its own and those of its checkpoints."""
        return {self.size, *(note.size for note in self.notes)}


def check_root(report: Report, where: str, size: int, root: bytes, log_size: int, roots: dict[int, bytes]) -> None:
    """Whether a log has the root that somebody vouched for at `size`."""
    if size > log_size:
        report.add(report.tampered, "truncated", where, f"it had {size} records and has {log_size}")
    elif size not in roots:
        report.add(report.notes, "pruned", where, f"the root of {size} records cannot be computed any more")
    elif roots[size] != root:
        report.add(report.tampered, "wrong root", where, f"the first {size} records are not those that were signed")


def check_note(report: Report, where: str, note: Note, keys: Keys, log_size: int, roots: dict[int, bytes]) -> bool:
    """Whether a checkpoint is of this log, signed, and gives its root. `keys` may sign sizes above their numbers."""
    with report.guard(where):
        need(note.origin == keys[0][1].name, f"it is of {note.origin}", "wrong origin")
        note.signers(key for since, key in keys if note.size > since)
        check_root(report, where, note.size, note.root, log_size, roots)
        return True
    return False


def check_notes(report: Report, log: Log, roots: dict[int, bytes], keys: Keys) -> None:
    """A log's own checkpoints."""
    last = 0
    for note in log.notes:
        where = f"{log.name}, checkpoint of {note.size}"
        if note.size < last:
            report.add(report.tampered, "sizes go backwards", where, f"it comes after one of {last}")
        elif check_note(report, where, note, keys, log.size, roots):
            last = note.size
    if log.is_torn:
        report.add(report.notes, "torn checkpoint", log.name, "the last checkpoint is cut off")
    if log.size > last:
        report.add(report.notes, "unsigned", log.name, f"the last {log.size - last} records are not signed")
    report.logs.append({"name": clean(log.name), "records": log.size, "signed": last})


# ---- Approvals ----

Entity = tuple[str, str]
Seat = tuple[str, str]
PENDING, APPROVED, REDEEMED, DENIED, EXPIRED, CANCELLED, SUPERSEDED, REVOKED, LAPSED = range(1, 10)
EVENTS = {10: "opened", 11: "joined", 12: "voted", 13: "cancelled", 14: "revoked", 15: "redeemed", 16: "superseded"}
EVENTS |= {17: "stranded", 18: "reported", 19: "timed_out", 20: "reminded", 21: "escalated"}
MOVES = {  # Which status changes an event may bring; (X, X) stays.
    "opened": {(0, PENDING)},
    "joined": {(PENDING, PENDING), (APPROVED, APPROVED)},
    "voted": {(PENDING, PENDING), (PENDING, APPROVED), (PENDING, DENIED), (APPROVED, APPROVED), (APPROVED, REVOKED)},
    "cancelled": {(PENDING, CANCELLED)},
    "revoked": {(APPROVED, REVOKED)},
    "redeemed": {(APPROVED, REDEEMED), (APPROVED, SUPERSEDED), (REDEEMED, REDEEMED)},
    "superseded": {(PENDING, SUPERSEDED), (APPROVED, SUPERSEDED)},
    "stranded": {(PENDING, DENIED)},
    "reported": {(REDEEMED, REDEEMED)},
    "timed_out": {(PENDING, EXPIRED), (APPROVED, LAPSED), (REDEEMED, REDEEMED)},
    "reminded": {(PENDING, PENDING)},
    "escalated": {(PENDING, PENDING)},
}


def pair(message: Message) -> tuple[str, str]:
    """An entity (type, id) or a seat (rule, slot)."""
    return message.text(1), message.text(2)


def merged(counts: Iterable[Message]) -> dict[Seat, int]:
    """How many persons each seat takes: the most that is asked for."""
    seats: dict[Seat, int] = {}
    for each in counts:
        seat = pair(each.one(1))
        seats[seat] = max(seats.get(seat, 0), each.number(2))
    return seats


def may_fill(standing: Message) -> set[Seat]:
    """The seats of somebody who may approve; none for anybody else."""
    return set() if standing.data(2) or standing.data(3) else {pair(seat) for seat in standing.many(1)}


def fills(seats: dict[Seat, int], persons: list[set[Seat]]) -> bool:
    """Whether each place of each seat gets a person of its own (augmenting paths). No places at all are not filled."""
    if not 0 < sum(seats.values()) <= len(persons):
        return False
    places = [seat for seat, count in seats.items() for _ in range(count)]
    holds: dict[int, int] = {}

    def give(place: int, tried: set[int]) -> bool:
        for person, may in enumerate(persons):
            if places[place] in may and person not in tried:
                tried.add(person)
                if person not in holds or give(holds[person], tried):
                    holds[person] = place
                    return True
        return False

    return all(give(place, set()) for place in range(len(places)))


@dataclass(frozen=True)
class Vote:
    """A vote that counts. Whoever shares one of the identities is the same person."""

    canonical: Entity
    account: Entity
    login: tuple[str, str]
    choice: int
    seats: set[Seat]

    def is_by(self, other: "Vote") -> bool:
        """Whether both votes are one person's."""
        return self.canonical == other.canonical or self.account == other.account or self.login == other.login


class Approval:
    """One approval as its records give it, played again."""

    def __init__(self, event: Message, opened: Message) -> None:
        self.digest, self.opened, self.status, self.version = event.data(5), opened, 0, 0
        barred = [each.one(1) for each in opened.many(14)]
        self.barred = {pair(each) for each in [*barred, opened.one(2), *opened.many(7)]}
        requirements = opened.many(15)
        self.seats = merged(count for each in requirements for count in each.many(3))
        self.redeem_within = min((each.signed(5) for each in requirements), default=0)
        self.votes: list[Vote] = []
        self.approved_at = 0
        self.redemption: tuple[str, str] | None = None
        self.decisions: set[bytes] = set()
        self.is_resolved = self.is_broken = False

    def play(self, at: int, event: Message) -> None:
        """One more record about it. A refusal changes nothing."""
        name, what = event.which(EVENTS)
        version, before, after = event.number(2), event.number(3), event.number(4)
        need(event.data(5) == self.digest, "it is about another request", "other digest")
        need(before == self.status, f"it says {before}, and the approval is at {self.status}", "other status")
        if event.data(6) or event.data(7):
            need((before, version) == (after, self.version), "a refusal changed something", "refusal")
            return
        need((before, after) in MOVES[name], f"{name} moves it from {before} to {after}", "transition")
        again = self.version if (name, after, before) == ("redeemed", REDEEMED, REDEEMED) else self.version + 1
        need(version in (again, self.version + 1), f"version {version} after {self.version}", "version")
        if name == "voted":
            self.vote(at, what, before, after)
        elif name == "redeemed" and after == REDEEMED:
            self.redeem(at, what)
        elif name in ("reported", "timed_out"):
            self.is_resolved = True
        self.status, self.version = after, version

    def vote(self, at: int, what: Message, before: int, after: int) -> None:
        """Checks and counts a vote."""
        person, choice = what.one(1), what.number(2)
        vote = Vote(pair(person.one(4)), pair(person.one(3)), pair(person), choice, may_fill(what.one(3)))
        need(at < self.opened.signed(16), "a vote after the deadline", "vote")
        need(what.data(5) == self.digest and what.data(6) == self.opened.data(13), "a vote on another view", "vote")
        earlier = [each for each in self.votes if each.is_by(vote)]
        need(all((each.choice, choice) == (1, 2) for each in earlier), "a person votes twice", "vote")
        self.votes = [each for each in self.votes if each not in earlier] + [vote]
        if choice == 1:
            need(not {vote.canonical, vote.account} & self.barred, "the requester's side approves", "vote")
            need(bool(vote.seats), "somebody approves who may not", "vote")
            is_full = fills(self.seats, [each.seats for each in self.votes if each.choice == 1])
            need(is_full or after != APPROVED, "approved without a quorum", "quorum")
            need(after in (PENDING, APPROVED), "a yes ends it", "vote")
            self.approved_at = at if before != after else self.approved_at
        else:
            need(choice == 2 and after not in (PENDING, APPROVED), "a no changes nothing", "vote")

    def redeem(self, at: int, what: Message) -> None:
        """Checks that the grant is spent once, for the same request, in time, and that the votes still suffice."""
        caller, request_id = pair(what)
        need(caller == self.opened.text(1), "another caller redeems", "redemption")
        need(what.data(3) == self.digest, "another request redeems", "redemption")
        self.decisions.add(what.data(4))
        if self.redemption is not None:
            need(bool(request_id) and self.redemption == (caller, request_id), "it is redeemed twice", "redemption")
            need(not self.is_resolved, "it is redeemed after its outcome", "redemption")
            return
        self.redemption = (caller, request_id)
        need(at < self.approved_at + self.redeem_within, "it is redeemed too late", "redemption")
        standings = {pair(each.one(1)): (pair(each.one(2)), may_fill(each.one(3))) for each in what.many(7)}
        persons: dict[Entity, set[Seat]] = {}
        for vote in self.votes:
            canonical, seats = standings.get(vote.canonical, (vote.canonical, set()))
            if vote.choice == 1 and not {vote.canonical, vote.account, canonical} & self.barred:
                persons.setdefault(canonical, set()).update(seats)
        need(fills(merged(what.many(6)), list(persons.values())), "the votes do not suffice any more", "quorum")


# ---- The control log ----

CONTROL = {4: "approval", 5: "policy_activated", 6: "policy_rejected", 7: "replica_started", 8: "replica_stopped"}
CONTROL |= {9: "replica_lost", 10: "anchor", 11: "key_added", 12: "log_read", 13: "pruned"}


def check_version(record: Message) -> None:
    """A kind of record that this program does not know was written by a newer version."""
    kinds = record.fields.keys() - {1}
    need(not kinds or min(kinds) <= LAST_KIND, "it was written by a newer version", NEWER)


class Control:
    """What the control log says, gathered record by record."""

    def __init__(self, report: Report) -> None:
        self.report = self.base = report
        self.keys: Keys = []
        self.vouched: dict[str, str] = {}
        self.starts: dict[str, Key] = {}
        self.claims: dict[str, list[tuple[str, Message]]] = {}
        self.pruned: dict[str, int] = {}
        self.approvals: dict[str, Approval] = {}
        self.granted: set[str] = set()
        self.last_at = 0
        self.heard: dict[str, int] = {}
        self.alive: set[str] = set()
        report.approvals = dict.fromkeys(["opened", "redeemed", "refused", "joined", "granted decisions"], 0)

    def read(self, index: int, leaf: bytes) -> None:
        """One more record; what is wrong with it is found, and the next one read."""
        with self.report.guard(f"control, record {index}"):
            record = Message(leaf)
            check_version(record)
            name, what = record.which(CONTROL)
            need(not {2, 3, 14} & record.fields.keys(), "a decision in the control log", "not a record")
            need(name == "key_added" or bool(self.keys), "the log does not begin with a key", "key chain")
            at, incarnation = record.signed(1), what.text(1)
            if at < self.last_at:
                self.report.add(self.report.notes, "clock", f"control, record {index}", "the clock went backwards")
            self.last_at = max(at, self.last_at)
            if name == "key_added":
                self.add_key(index, what)
            elif name == "replica_started":
                need(incarnation not in self.starts, f"{incarnation} started twice", "registered twice")
                self.starts[incarnation] = Key.parse(what.text(2))
                self.heard[incarnation] = at
                cluster = self.keys[0][1].name.removesuffix("control")
                need(self.starts[incarnation].name == f"{cluster}decision/{incarnation}", "its key has another name")
            elif name in ("anchor", "replica_stopped", "replica_lost", "pruned"):
                if name == "replica_lost" and not what.number(2) and incarnation not in self.starts:
                    self.report.add(self.report.notes, "lost", incarnation, "it was lost before it was registered")
                    return
                need(incarnation in self.starts, f"{name} of {incarnation}, which never started", "not registered")
                if name == "pruned":
                    self.pruned[incarnation] = max(what.number(2), self.pruned.get(incarnation, 0))
                else:
                    self.heard[incarnation] = max(at, self.heard[incarnation])
                    self.claims.setdefault(incarnation, []).append((f"{name} at {index}", what))
            elif name == "approval":
                self.play(at, what)

    def add_key(self, index: int, what: Message) -> None:
        """One more key, vouched for by an earlier one; the first stands for itself."""
        text, by = what.text(1), what.text(2)
        key = Key.parse(text)
        message = f"countersign key v1\n{text}\n".encode()
        need(key.has_signed(what.data(4), message), "the new key has not signed itself", "key chain")
        if index == 0:
            need(not by and not what.data(3), "somebody vouches for the first key", "key chain")
            need(re.fullmatch(r".+/control", key.name) is not None, "it is no control log's key", "key chain")
        else:
            earlier = [known for _, known in self.keys if known.text == by]
            need(bool(earlier), "an unknown key vouches for it", "key chain")
            need(earlier[0].has_signed(what.data(3), message), "it is not vouched for", "key chain")
            need(key.name == earlier[0].name, "it has another name", "key chain")
        self.keys.append((index, key))
        self.vouched.setdefault(text, by)

    def play(self, at: int, event: Message) -> None:
        """One more event of an approval. After one mistake the approval is not looked at any further."""
        approval_id, (name, what), counts = event.text(1), event.which(EVENTS), self.report.approvals
        is_refused = bool(event.data(6) or event.data(7))
        approval = self.approvals.get(approval_id)
        if approval is None:
            need(name == "opened" and not is_refused and event.number(2) == 1, "it was never opened", "opening")
            approval = self.approvals[approval_id] = Approval(event, what)
        if not approval.is_broken:
            approval.is_broken = True
            approval.play(at, event)
            approval.is_broken = False
        counts["refused"] += is_refused
        if name in ("opened", "joined") or (name == "redeemed" and event.number(4) == REDEEMED):
            counts[name] += not is_refused

    def back(self, decision: Message, at: int, is_covered: bool) -> None:
        """Whether a redemption backs a decision that rests on a grant."""
        self.report.approvals["granted decisions"] += 1
        approval = self.approvals.get(decision.text(50))
        need(decision.number(2) == 1, "a grant that is not ALLOW", "grant")
        if approval is not None and approval.is_broken:
            return
        if (approval is None or approval.redemption is None) and at >= self.last_at and not is_covered:
            self.report.add(self.report.notes, "early grant", "decision", "its redemption is not in this mirror yet")
            return
        need(approval is not None, "no such approval", "grant")
        assert approval is not None
        need(decision.data(1) in approval.decisions, "no redemption backs it", "grant")
        need(decision.data(52) == approval.digest, "it was granted for another request", "grant")
        self.granted.add(decision.text(50))


def verify_control(report: Report, logs: list[Log], pinned: list[Key], kept: bytes | None) -> Control:
    """The control log's copies: one is the begin of the other, and the longest is read. `kept` holds heads of it."""
    control = Control(report)
    logs.sort(key=lambda log: log.size, reverse=True)
    heads = list[Note]()
    if kept is not None:
        with report.guard("heads"):
            heads = read_heads(report, kept, origin_of(logs[0]) if logs else "")
        report.heads = {"count": len(heads), "newest": heads[-1].size if heads else 0}
    if not logs:
        report.add(report.incomplete, "no control log", "control", "there is none that can be read")
        for head in heads:
            report.add(report.tampered, "truncated", f"head of {head.size}", "there is no control log")
        return control
    sizes = {size for log in logs for size in log.sizes()} | {head.size for head in heads}
    roots: list[dict[int, bytes]] = []
    for log in logs:
        with report.guard(log.name):
            need(log.first == 0, "its first records are gone", "missing segment")
            roots.append(log.walk(sizes, control.read if log is logs[0] else lambda *_: None))
    if len(roots) < len(logs) or not control.keys:
        is_empty = not any(log.size or log.notes or log.is_torn for log in logs)
        to = report.incomplete if is_empty else report.tampered
        report.add(to, "key chain", "control", "the log cannot be read, or begins without a key")
        return control
    newest: Note | None = None
    known = {key.text for _, key in control.keys}
    for log, own in zip(logs, roots, strict=True):
        check_root(report, f"{log.name} and {logs[0].name}", log.size, own[log.size], logs[0].size, roots[0])
        check_notes(report, log, own, control.keys)
        newest = max([*log.notes, *([newest] if newest else [])], key=lambda note: note.size, default=None)
        *lines, rest = log.keys.split("\n")
        if rest or not lines or not known >= {*lines}:
            report.add(report.tampered, "other key", log.name, "the file `key` has keys that are not in the log")
    if newest is None:
        report.add(report.incomplete, "no checkpoint", "control", "the log was never signed")
    elif pinned:
        with report.guard("control"):
            check_pinned(control, newest, {key.text for key in pinned})
    for head in heads:
        check_note(report, f"head of {head.size}", head, control.keys, logs[0].size, roots[0])
    if not heads:
        report.add(report.notes, "no heads", "control", "an old state of all folders together would not be seen")
    if not pinned:
        report.add(report.notes, "no pinned key", "control", "nothing from outside says whose log this is")
    return control


def origin_of(log: Log) -> str:
    """The name of a control log: that of its first key."""
    with contextlib.suppress(Exception):
        return Key.parse(Message(next(log.leaves())).one(11).text(1)).name
    return ""


def check_pinned(control: Control, newest: Note, pinned: set[str]) -> None:
    """The newest checkpoint is signed by a pinned key, or by one that a pinned key vouches for, through others too."""
    for signer in newest.signers(key for since, key in control.keys if newest.size > since):
        text = signer.text
        while text and text not in pinned:
            text = control.vouched[text]
        if text:
            return
    raise Wrong("the newest checkpoint does not come from a pinned key", "pinned key")


# ---- Decision logs ----


def verify_decision(report: Report, log: Log, incarnation: str, control: Control, others: set[int]) -> dict[int, bytes]:
    """One decision log: its records, its checkpoints, and what the control log says of it."""
    key, claims, counts = control.starts[incarnation], control.claims.get(incarnation, []), Counter[str]()
    need(log.keys == key.text + "\n", "the file `key` has another key than the control log", "other key")
    need(log.first <= control.pruned.get(incarnation, 0), f"records below {log.first} are gone", "missing records")
    signed_at, last_signed = control.heard[incarnation], max((note.size for note in log.notes), default=0)
    sizes = log.sizes() | others | {claim.number(2) for _, claim in claims}
    covered = max([note.size for note in log.notes] + [claim.number(2) for _, claim in claims], default=0)

    def read(index: int, leaf: bytes) -> None:
        nonlocal signed_at
        with report.guard(f"{log.name}, record {index}"):
            record = Message(leaf)
            signed_at = max(signed_at, record.signed(1)) if index + 1 == last_signed else signed_at
            check_version(record)
            name, what = record.which({2: "decision", 3: "gap", 14: "refused"})
            need(not CONTROL.keys() & record.fields.keys(), "a record of the control log", "not a record")
            counts["lost"] += sum(what.number(each) for each in (3, 4, 5)) if name == "gap" else 0
            counts["decisions"] += name in {"decision", "refused"}
            if name == "decision" and what.number(51):
                control.back(what, record.signed(1), index < covered)
            elif name == "decision":
                need(what.number(2) != 1 or not what.all(6), "ALLOW without the grant that the rules ask for", "grant")

    roots = log.walk(sizes, read)
    check_notes(report, log, roots, [(-1, key)])
    for where, claim in claims:
        check_root(report, f"{log.name}, {where}", claim.number(2), claim.data(3), log.size, roots)
        if where.startswith("replica_lost"):
            unsigned, more = log.size - last_signed, log.size - claim.number(2)
            if more > 0:
                report.add(report.notes, "lost", log.name, f"it has {more} records more than were known to be kept")
            if unsigned > 0:
                report.add(report.notes, "lost", log.name, f"its own key never signed the last {unsigned} records")
        if where.startswith("replica_stopped"):
            accepted, lost = claim.number(4), claim.number(5)
            need(log.size == claim.number(2), f"it stopped at {claim.number(2)} and has {log.size}", "too long")
            is_right = log.first > 0 or counts == Counter(decisions=accepted - lost, lost=lost)
            need(is_right, f"{accepted} accepted and {lost} lost, but there are {dict(counts)}", "count")
    if counts["lost"]:
        report.add(report.notes, "gaps", log.name, f"{counts['lost']} decisions are declared lost")
    if not any(where.startswith("replica_") for where, _ in claims):
        report.add(report.notes, "running", log.name, "the replica has neither stopped nor been lost")
        if control.last_at > signed_at + SILENCE and incarnation not in control.alive:
            report.add(report.incomplete, "silent", log.name, "nothing of it is signed since the cluster went on")
    return roots


def verify_logs(report: Report, logs: list[Log], incarnation: str, control: Control) -> None:
    """The copies of one decision log."""
    logs.sort(key=lambda log: log.size, reverse=True)
    longest: dict[int, bytes] = {}
    for log in logs:
        with report.guard(log.name):
            roots = verify_decision(report, log, incarnation, control, {each.size for each in logs})
            longest = longest or roots
            check_root(report, f"{log.name}, twice", log.size, roots[log.size], logs[0].size, longest)


def verify_decisions(
    found: dict[str, list[Log]], broken: set[str], there: set[str], control: Control, again: Callable[[], Control]
) -> Report:
    """Every registered decision log is there, and no other. Doubts are judged by what the control log says `again`."""
    results: dict[str, Report] = {}
    for incarnation, logs in sorted(found.items()):
        report = results[incarnation] = control.report = Report(approvals=control.report.approvals)
        if incarnation in control.starts:
            verify_logs(report, logs, incarnation, control)
    doubts = {"not registered", "missing records", "grant", "missing segment"}
    doubtful = {name for name, each in results.items() if any(f.kind in doubts for f in each.tampered)}
    doubtful |= found.keys() - control.starts.keys() if control.keys else set()
    report = control.base
    if doubtful:
        granted, counts = control.granted, control.report.approvals
        control = again()
        report = control.base
        control.granted |= granted
        report.approvals["granted decisions"] = counts["granted decisions"]
        for incarnation in sorted(doubtful):
            each = results[incarnation] = control.report = Report(approvals=report.approvals)
            where = f"decision/{incarnation}"
            if incarnation in control.starts:
                with each.guard(where):
                    verify_logs(each, [Log(log.path, log.name) for log in found[incarnation]], incarnation, control)
            elif not any(log.size for log in found[incarnation]):
                each.add(each.notes, "new", where, "it is empty, and not registered yet")
            elif incarnation not in there:
                each.add(each.notes, "new", where, "it came while the others were read, and is not registered yet")
            elif control.keys:
                each.add(each.tampered, "not registered", where, "no replica started with it")
    for each in results.values():
        report.absorb(each)
    for incarnation in control.starts.keys() - found.keys() - broken:
        report.add(report.incomplete, "missing log", f"decision/{incarnation}", "it is registered and not given")
    spent = [key for key, approval in control.approvals.items() if approval.redemption and key not in control.granted]
    if spent:
        report.add(report.notes, "no decision", "approvals", f"{len(spent)} redeemed grants have no decision record")
    return report


# ---- The command line ----


def unpacked(source: Path, to: Path) -> Path:
    """The audit folder itself, or what is in a bundle, unpacked below `to`."""
    if source.is_dir():
        return source
    if not source.is_file() or not tarfile.is_tarfile(source):
        raise Usage(f"{source}: neither a folder nor a bundle")
    with tarfile.open(source, "r:") as bundle:
        left = MAX_TAR
        for member in bundle:
            left -= member.size + 512
            need(left > 0 and (member.isfile() or member.isdir()), f"{member.name}: not fit for a bundle")
            bundle.extract(member, to, filter="data")
    return to


def open_logs(report: Report, folders: list[Path], pattern: str) -> tuple[dict[str, list[Log]], set[str]]:
    """The logs that match, by the names of their folders, and the names of those that cannot be read."""
    found: dict[str, list[Log]] = {}
    broken: set[str] = set()
    for folder in folders:
        for path in sorted(each for each in folder.glob(pattern) if each.is_dir()):
            name = str(path.relative_to(folder))
            name = name if len(folders) == 1 else f"{folder.name}/{name}"
            broken.add(path.name)
            with report.guard(name):
                found.setdefault(path.name, []).append(Log(path, name))
                broken.discard(path.name)
    return found, broken


def verify(report: Report, sources: list[Path], pinned: list[Key], heads: Path | None, temporary: Path) -> None:
    """Verifies all folders and bundles together, in an order in which a server may go on writing."""
    folders = [unpacked(source, temporary / str(number)) for number, source in enumerate(sources)]
    for source, folder in zip(sources, folders, strict=True):
        if not (folder / "control").is_dir() and not (folder / "decision").is_dir():
            raise Usage(f"{source}: no audit folder")
    kept = None if heads is None else read_file(heads)
    there = {path.name for folder in folders for path in folder.glob("decision/*")}

    def read_control() -> Control:
        base = Report()
        controls, _ = open_logs(base, folders, "control")
        logs = controls.get("control", [])
        control = verify_control(base, logs, pinned, kept)
        control.alive = alive(folders, logs, control.last_at)
        return control

    control = read_control()
    opened = Report()
    decisions, broken = open_logs(opened, folders, "decision/*")
    report.absorb(verify_decisions(decisions, broken, there, control, read_control))
    report.absorb(opened)


def alive(folders: list[Path], copies: list[Log], last_at: int) -> set[str]:
    """The newest start of all, and of each replica whose copy of the control log has what was written lately."""
    starts = {folder: max((path.name for path in folder.glob("decision/*")), default="") for folder in folders}
    found = {max(starts.values(), default="")}
    for log in copies:
        with contextlib.suppress(Exception):
            *_, last = (Message(leaf).signed(1) for leaf in log.leaves())
            found |= {starts[log.path.parent]} if last + SILENCE >= last_at else set()
    return found


def read_keys(texts: list[str]) -> list[Key]:
    """Keys as they are given: each a key, or a file of keys, one a line."""
    keys = []
    for text in texts:
        try:
            lines = Path(text).read_text().split() if Path(text).is_file() else [text]
            keys += [Key.parse(line) for line in lines]
        except Exception as error:
            raise Usage(f"--key {text}: {error}") from error
    return keys


def show(report: Report, as_json: bool) -> None:
    """Prints a short report, or one for programs."""
    if as_json:
        grave, notes = [[asdict(f) for f in fs] for fs in (report.tampered + report.incomplete, report.notes)]
        answer = {"verdict": report.verdict(), "findings": grave, "notes": notes}
        print(
            json.dumps(answer | {"heads": report.heads, "logs": report.logs, "approvals": report.approvals}, indent=2)
        )
        return
    for title, findings in (("TAMPERING", report.tampered), ("INCOMPLETE", report.incomplete), ("note", report.notes)):
        for each in findings[:50]:
            print(f"{title}: {each.where}: {each.kind}: {each.what}")
        if len(findings) > 50:
            print(f"{title}: and {len(findings) - 50} more")
    for log in report.logs:
        print(f"{log['name']}: {log['records']} records, {log['signed']} of them signed")
    if report.heads:
        print(f"heads kept elsewhere: {report.heads['count']}, the newest of {report.heads['newest']} records")
    print("approvals: " + ", ".join(f"{count} {name}" for name, count in report.approvals.items()))
    print(report.verdict())


def main() -> int:
    """Reads the arguments, verifies, prints, and answers the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", exit_on_error=False)
    parser.add_argument("folder", nargs="+", type=Path, help="an audit folder of a replica, or a bundle of one")
    parser.add_argument("--key", action="append", default=[], help="a key that is trusted, or a file of such keys")
    parser.add_argument("--heads", type=Path, help="checkpoints of the control log that were kept elsewhere")
    parser.add_argument("--json", action="store_true", help="print JSON")
    try:
        arguments = parser.parse_args()
        if arguments.heads is not None and not arguments.heads.is_file():
            raise Usage(f"{arguments.heads}: not there")
        keys = read_keys(arguments.key)
        report = Report()
        with tempfile.TemporaryDirectory() as temporary, report.guard("audit"):
            verify(report, arguments.folder, keys, arguments.heads, Path(temporary))
    except (Usage, argparse.ArgumentError) as error:
        print(clean(error), file=sys.stderr)
        return 3
    except SystemExit as stopped:
        return 3 if stopped.code else 0
    show(report, arguments.json)
    return {"intact": 0, "tampered": 1, "incomplete": 2}[report.verdict()]


if __name__ == "__main__":
    sys.exit(main())
