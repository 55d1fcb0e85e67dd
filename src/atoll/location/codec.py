"""Records as bytes.

    generation   4 bytes   of the boots of the machine that the cache has seen
    flags        1 byte
    sequence     8 bytes
    instant_ms   8 bytes
    version      8 bytes   0 when the record has no entry
    expiration   8 bytes   0 for none
    namespace    2 bytes of length, and so the three below
    key
    metadata     4 bytes of length
    value        the rest; of a large value its size and the name of its file

The key stands in full, because records are found by a digest of it.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from atoll.core.model import Entry, LargeValue
from atoll.core.version import Version
from atoll.location.age import NEVER, Record

HEADER: Final = struct.Struct("<IBqqQqHHI")
LARGE: Final = struct.Struct("<Q")

DIGEST_BYTES: Final = 16

HAS_ENTRY: Final = 1
HAS_VALUE: Final = 2
HAS_METADATA: Final = 4
SUPERSEDED: Final = 8
UNCOVERED: Final = 16
IS_LARGE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeName:
    """Where a large value is."""

    name: str
    size_bytes: int


def digest_of(namespace: str, key: str) -> bytes:
    """Return what a record is found by."""
    name = f"{namespace}\0{key}".encode()
    return hashlib.blake2b(name, digest_size=DIGEST_BYTES).digest()


def encode(
    namespace: str, key: str, record: Record, *, generation: int, large: LargeName | None
) -> bytes:
    """Encode a record.

    Args:
        namespace: The key's.
        key: The key.
        record: What is known of it.
        generation: The present generation of boots.
        large: Where its value is, if that is not to stand in the record.
    """
    entry = record.entry
    flags = (SUPERSEDED if record.superseded else 0) | (UNCOVERED if record.uncovered else 0)
    value = metadata = b""
    version = expiration = 0
    if entry is not None:
        flags |= HAS_ENTRY
        version, expiration = entry.version, entry.expiration or 0
        if entry.metadata is not None:
            flags |= HAS_METADATA
            metadata = entry.metadata
        if large is not None:
            flags |= HAS_VALUE | IS_LARGE
            value = LARGE.pack(large.size_bytes) + large.name.encode()
        elif entry.value is not None:
            assert isinstance(entry.value, bytes)
            flags |= HAS_VALUE
            value = entry.value
    place = namespace.encode(), key.encode()
    header = HEADER.pack(
        generation,
        flags,
        record.sequence,
        record.instant_ms,
        version,
        expiration,
        len(place[0]),
        len(place[1]),
        len(metadata),
    )
    return b"".join((header, *place, metadata, value))


def place_of(raw: bytes) -> tuple[str, str]:
    """Return the namespace and the key of an encoded record."""
    *_, namespace_bytes, key_bytes, _ = HEADER.unpack_from(raw)
    start = HEADER.size + namespace_bytes
    namespace = raw[HEADER.size : start].decode()
    return namespace, raw[start : start + key_bytes].decode()


def large_of(raw: bytes | None) -> LargeName | None:
    """Return where the large value of an encoded record is, if it has one."""
    if raw is None or not raw[4] & IS_LARGE:
        return None
    *_, namespace_bytes, key_bytes, metadata_bytes = HEADER.unpack_from(raw)
    at = HEADER.size + namespace_bytes + key_bytes + metadata_bytes
    (size_bytes,) = LARGE.unpack_from(raw, at)
    return LargeName(name=raw[at + LARGE.size :].decode(), size_bytes=size_bytes)


def decode(
    raw: bytes, *, generation: int, opened: Callable[[LargeName], LargeValue]
) -> tuple[str, str, Record]:
    """Decode what `encode` wrote.

    Args:
        raw: The bytes.
        generation: The present generation; an instant of another one is `NEVER`.
        opened: Makes the value from where it is.

    Returns:
        The namespace, the key and the record.
    """
    (
        written_in,
        flags,
        sequence,
        instant_ms,
        version,
        expiration,
        namespace_bytes,
        key_bytes,
        metadata_bytes,
    ) = HEADER.unpack_from(raw)
    key_at = HEADER.size + namespace_bytes
    metadata_at = key_at + key_bytes
    value_at = metadata_at + metadata_bytes
    key = raw[key_at:metadata_at].decode()
    entry: Entry | None = None
    if flags & HAS_ENTRY:
        value: bytes | LargeValue | None = raw[value_at:] if flags & HAS_VALUE else None
        large = large_of(raw)
        if large is not None:
            value = opened(large)
        entry = Entry(
            key=key,
            version=Version(version),
            value=value,
            metadata=raw[metadata_at:value_at] if flags & HAS_METADATA else None,
            expiration=expiration or None,
        )
    record = Record(
        entry=entry,
        sequence=sequence,
        instant_ms=instant_ms if written_in == generation else NEVER,
        superseded=bool(flags & SUPERSEDED),
        uncovered=bool(flags & UNCOVERED),
    )
    return raw[HEADER.size : key_at].decode(), key, record
