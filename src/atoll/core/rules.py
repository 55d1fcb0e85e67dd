"""Whether a request is allowed, which of two entries wins, and who sees what when.

Pure functions and one counter. Whoever accepts a request calls them once, at acceptance;
nothing that was accepted is judged again later, so the limits of one moment cannot strand a
write that waits in a queue.
"""

import json
import math
from collections import OrderedDict
from typing import Final

from atoll.core.errors import (
    AtollError,
    BulkInvalidError,
    ConditionInvalidError,
    ExpirationInvalidError,
    ExpirationTtlInvalidError,
    KeyEmptyError,
    KeyEncodingError,
    KeyIllegalError,
    KeyTooLongError,
    MetadataInvalidError,
    MetadataTooLargeError,
    RewriteTooSoonError,
    ValueTooLargeError,
)
from atoll.core.limits import Limits
from atoll.core.model import Condition, Entry, Mutation, Presence
from atoll.core.version import Version, parse_version

EXPIRATION_MAX: Final = 253_402_300_799
"""The last second of the year 9999: what lies beyond is a unit mistaken, not a plan."""

SUSPECT_KEY_CHARS: Final = 3
"""Shorter keys may be empty, `.` or `..`."""

Seconds = int | float | str
"""Seconds as requests give them: JSON numbers, or the text of a query parameter."""


def check_key(limits: Limits, key: str) -> None:
    """Refuse what cannot be a key.

    Raises:
        KeyEmptyError: It is empty.
        KeyIllegalError: It is `.` or `..`.
        KeyEncodingError: It holds a lone surrogate, which has no UTF-8 form.
        KeyTooLongError: Its UTF-8 form exceeds the limit.
    """
    if not key:
        raise KeyEmptyError
    if key in {".", ".."}:
        raise KeyIllegalError(key=key)
    check_prefix(limits, key)


def check_prefix(limits: Limits, prefix: str) -> None:
    """Refuse a prefix that no key can begin with.

    Raises:
        KeyEncodingError: It holds a lone surrogate.
        KeyTooLongError: It is longer than any key.
    """
    if prefix.isascii() and len(prefix) <= limits.key_bytes_max:
        return
    try:
        size_bytes = len(prefix.encode())
    except UnicodeEncodeError as error:
        raise KeyEncodingError from error
    if size_bytes > limits.key_bytes_max:
        raise KeyTooLongError(size_bytes=size_bytes, size_bytes_max=limits.key_bytes_max)


def check_value_size(limits: Limits, size_bytes: int) -> None:
    """Refuse a value that is too large.

    Raises:
        ValueTooLargeError: `size_bytes` exceeds the limit.
    """
    if size_bytes > limits.value_bytes_max:
        raise ValueTooLargeError(size_bytes=size_bytes, size_bytes_max=limits.value_bytes_max)


def compact_metadata(limits: Limits, metadata: object) -> bytes | None:
    """Serialise metadata compactly and check its size: what is measured is what is stored.

    Args:
        limits: The limits in force.
        metadata: A JSON value. `None` means no metadata, as a JSON null does.

    Raises:
        MetadataInvalidError: It holds what JSON cannot, such as NaN or a lone surrogate.
        MetadataTooLargeError: It exceeds the limit.
    """
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        raw = text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise MetadataInvalidError(detail=str(error)) from error
    if len(raw) > limits.metadata_bytes_max:
        raise MetadataTooLargeError(size_bytes=len(raw), size_bytes_max=limits.metadata_bytes_max)
    return raw


def parse_metadata(limits: Limits, text: str | bytes) -> bytes | None:
    """Read metadata that a request gives as JSON text; empty text means none.

    Raises:
        MetadataInvalidError: It is not JSON.
        MetadataTooLargeError: Compactly serialised, it exceeds the limit.
    """
    if not text.strip():
        return None
    try:
        metadata = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MetadataInvalidError(detail=str(error)) from error
    return compact_metadata(limits, metadata)


def _refuse_constant(name: str) -> object:
    message = f"{name} is not JSON"
    raise ValueError(message)


def expires_at(
    limits: Limits,
    *,
    now_s: float,
    expiration: Seconds | None = None,
    expiration_ttl: Seconds | None = None,
) -> int | None:
    """Decide when a write expires. A time to live wins over a time; fractions are cut off.

    Args:
        limits: The limits in force.
        now_s: Central time, in seconds since the Unix epoch.
        expiration: Seconds since the Unix epoch.
        expiration_ttl: Seconds from now.

    Returns:
        Whole seconds since the Unix epoch, or `None` when it never expires.

    Raises:
        ExpirationTtlInvalidError: `expiration_ttl` is not a number, or too small.
        ExpirationInvalidError: `expiration` is not a number, or not far enough ahead.
    """
    ahead_min = limits.expiration_ahead_s_min
    if expiration_ttl is not None:
        ttl = _whole_seconds(expiration_ttl)
        if ttl is None or ttl <= 0 or ttl > EXPIRATION_MAX - int(now_s):
            raise ExpirationTtlInvalidError(
                given=str(expiration_ttl), rule="Please specify integer greater than 0."
            )
        if ttl < ahead_min:
            raise ExpirationTtlInvalidError(
                given=str(expiration_ttl), rule=f"Expiration TTL must be at least {ahead_min}."
            )
        return int(now_s) + ttl
    if expiration is None:
        return None
    at = _whole_seconds(expiration)
    if at is None or at <= now_s or at > EXPIRATION_MAX:
        raise ExpirationInvalidError(
            given=str(expiration),
            rule="Please specify integer greater than the current number of seconds since the"
            " UNIX epoch.",
        )
    if at < int(now_s) + ahead_min:
        raise ExpirationInvalidError(
            given=str(expiration),
            rule=f"Expiration times must be at least {ahead_min} seconds in the future.",
        )
    return at


def _whole_seconds(given: Seconds) -> int | None:
    """Return `given` cut to whole seconds, or `None` if it is no number of them."""
    if isinstance(given, bool):
        return None
    if isinstance(given, str):
        # float() also takes "1_000", " 7 " and non-ASCII digits, which nobody means.
        if not given or not given.isascii() or given.strip("0123456789.-"):
            return None
        try:
            given = float(given)
        except ValueError:
            return None
    if isinstance(given, float) and not math.isfinite(given):
        return None
    return int(given)


def put(
    limits: Limits,
    *,
    key: str,
    value: bytes,
    metadata: bytes | None = None,
    expiration: int | None = None,
    condition: Condition | None = None,
) -> Mutation:
    """Make the mutation that stores a value.

    Args:
        limits: The limits in force.
        key: The key.
        value: The value, possibly empty.
        metadata: From `parse_metadata` or `compact_metadata`.
        expiration: From `expires_at`.
        condition: From `parse_condition`.

    Raises:
        KeyEmptyError: The key is empty; see `check_key` for the other errors of keys.
        ValueTooLargeError: The value exceeds the limit.
    """
    # Almost every key and value passes here, and a bulk brings ten thousand of them.
    if len(key) < SUSPECT_KEY_CHARS or len(key) > limits.key_bytes_max or not key.isascii():
        check_key(limits, key)
    if len(value) > limits.value_bytes_max:
        check_value_size(limits, len(value))
    # What `Mutation(...)` does, at a third of its price.
    fields = (key, value, metadata, expiration, condition, None)
    return tuple.__new__(Mutation, fields)  # pyright: ignore[reportUnknownMemberType]


def delete(limits: Limits, *, key: str, condition: Condition | None = None) -> Mutation:
    """Make the mutation that deletes a key; see `check_key` for its errors."""
    check_key(limits, key)
    return Mutation(key=key, value=None, condition=condition)


def at_item(index: int, key: object, cause: AtollError) -> BulkInvalidError:
    """Say which member of a bulk request an error is about."""
    name = key if isinstance(key, str) else repr(key)
    return BulkInvalidError(index=index, key=name, cause=cause)


def parse_condition(*, if_match: str | None, if_none_match: str | None) -> Condition | None:
    """Read `If-Match` and `If-None-Match` of a write.

    Raises:
        ConditionInvalidError: Both were given, or one that is not of a form that we take.
    """
    if if_match is not None and if_none_match is not None:
        raise ConditionInvalidError(given=f"{if_match}; {if_none_match}")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise ConditionInvalidError(given=if_none_match)
        return Presence.ABSENT
    if if_match is None:
        return None
    text = if_match.strip()
    if text == "*":
        return Presence.PRESENT
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':  # noqa: PLR2004 - two quotes
        raise ConditionInvalidError(given=if_match)
    return parse_version(text[1:-1])


def is_live(entry: Entry | None, now_s: float) -> bool:
    """Whether a reader sees `entry` at `now_s`, central time in seconds since the Unix epoch."""
    return (
        entry is not None
        and entry.value is not None
        and (entry.expiration is None or entry.expiration > now_s)
    )


def holds(condition: Condition | None, live_version: Version | None) -> bool:
    """Whether a write may go ahead over what is there.

    Args:
        condition: What the write requires.
        live_version: The version that readers see now, `None` when they see nothing: expired
            and deleted are absent, and a version never matches absence.
    """
    if condition is None:
        return True
    if condition is Presence.ABSENT:
        return live_version is None
    if condition is Presence.PRESENT:
        return live_version is not None
    return condition == live_version


class RewriteLimiter:
    """One write a second to one key, counted where the write is accepted.

    Time is the caller's elapsed clock, so a step of the wall clock neither blocks nor frees a
    key. What is older than the interval is forgotten as new writes come.
    """

    def __init__(self, interval_ms: int) -> None:
        """Allow one write per key and `interval_ms`; 0 allows any number."""
        self.interval_ms = interval_ms
        self._accepted: OrderedDict[tuple[str, str], int] = OrderedDict()

    @property
    def keys_held(self) -> int:
        """How many keys are remembered."""
        return len(self._accepted)

    def wait_ms(self, namespace: str, key: str, now_ms: int) -> int:
        """Return how long until this key may be written again, 0 for now."""
        last_ms = self._accepted.get((namespace, key))
        return 0 if last_ms is None else max(0, last_ms + self.interval_ms - now_ms)

    def accept(self, namespace: str, key: str, now_ms: int) -> None:
        """Count a write.

        Raises:
            RewriteTooSoonError: The key was written less than the interval ago. Not counted.
        """
        if not self.interval_ms:
            return
        wait_ms = self.wait_ms(namespace, key, now_ms)
        if wait_ms:
            raise RewriteTooSoonError(key=key, retry_after_ms=wait_ms, interval_ms=self.interval_ms)
        while self._accepted:
            oldest, at_ms = next(iter(self._accepted.items()))
            if at_ms + self.interval_ms > now_ms:
                break
            del self._accepted[oldest]
        self._accepted[namespace, key] = now_ms

    def release(self, namespace: str, key: str) -> None:
        """Forget a write that was counted and then not applied."""
        self._accepted.pop((namespace, key), None)


class Admission:
    """Counts the writes of one batch against the rule of one write a second per key.

    The store asks inside the transaction, behind identity and conditions: so a repeat is never
    refused, a write that its condition stopped is never counted, and deleting what is absent,
    which rewrites nothing, is let through.
    """

    def __init__(self, rewrites: RewriteLimiter, namespace: str, now_ms: int) -> None:
        """Count in `rewrites`, as of `now_ms` of the elapsed clock."""
        self._rewrites = rewrites
        self._namespace = namespace
        self._now_ms = now_ms
        self._counted: set[str] = set()

    def admit(self, mutation: Mutation, *, live: bool) -> None:
        """See `atoll.store.protocol.Admit`."""
        if (mutation.value is None and not live) or mutation.key in self._counted:
            return  # Counted already: a store may try a batch again by itself.
        self._rewrites.accept(self._namespace, mutation.key, self._now_ms)
        self._counted.add(mutation.key)

    def withdraw(self) -> None:
        """Uncount: the batch was not applied."""
        for key in self._counted:
            self._rewrites.release(self._namespace, key)
