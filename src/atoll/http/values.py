"""What the faces do alike: find out who asks; read, write, and make writing repeatable."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from atoll.core import rules
from atoll.core.errors import (
    BulkReadInvalidError,
    BulkReadTooLargeError,
    NamespaceNotFoundError,
    NotArrivedError,
    ParameterInvalidError,
)
from atoll.core.model import Batch, Entry, Identity, Mutation, Read, Reading, Written
from atoll.http.body import Bodies
from atoll.http.cache_control import UNSAID, Freshness
from atoll.http.exchange import Header, Request, at_position, decode_key, etag
from atoll.http.form import boundary_of
from atoll.http.metadata import stored_form
from atoll.http.node import Node
from atoll.namespace_rules import Choice
from atoll.principal import EVERY_ACCOUNT, Permission, Principal

IDEMPOTENCY_KEY_BYTES_MAX: Final = 255
US_PER_S: Final = 1_000_000

_FINGERPRINT_BYTES: Final = 16


async def principal_of(node: Node, request: Request) -> Principal:
    """Find out who a request comes from.

    Raises:
        UnauthenticatedError: Nobody that we know.
    """
    return await node.accounts.authenticate(
        authorization=request.header(b"authorization"),
        email=request.header(b"x-auth-email"),
        key=request.header(b"x-auth-key"),
    )


async def admitted(node: Node, request: Request, permission: Permission) -> Principal:
    """Find out who a request comes from, and that the namespace that it names is theirs to use.

    Args:
        node: The node that is asked.
        request: The request; its namespace was filled in; its rules and its principal are by this.
        permission: What it needs.

    Raises:
        NamespaceNotFoundError: It does not exist, or belongs to another account.
    """
    principal = await principal_of(node, request)
    principal.require(permission, account=principal.account, namespace=request.namespace)
    namespace = await node.accounts.namespace(request.namespace)
    if principal.account not in {EVERY_ACCOUNT, namespace.account}:
        raise NamespaceNotFoundError
    request.rules = namespace.rules
    request.principal = principal
    return principal


class Values:
    """The values of one face."""

    def __init__(self, node: Node, bodies: Bodies, face: str) -> None:
        """Read and write through `node`, counting rewrites as the limits say for `face`."""
        self._node = node
        self._bodies = bodies
        self._rate_limited = face in node.limits.rewrite_faces

    async def read(self, request: Request, *, wanted: Freshness = UNSAID) -> Reading:
        """Read the key that `request` names.

        Args:
            request: The request; its namespace and key were filled in.
            wanted: What it accepts.

        Raises:
            NotArrivedError: Nothing at or after its position is here, and it does not say that
                what is stale will do.
        """
        asked = self._asked(request, (decode_key(request.key),), wanted)
        try:
            return await self._node.upstream.read(asked)
        except NotArrivedError:
            if not _may_go_back(asked, wanted):
                raise
        reading = await self._node.upstream.read(replace(asked, at_least=None))
        return replace(reading, stale=True)

    async def read_many(
        self, request: Request, keys: Sequence[str], *, wanted: Freshness = UNSAID
    ) -> Mapping[str, Reading]:
        """Read several keys of the namespace that `request` names; bounds hold for each.

        Args:
            request: The request; its namespace was filled in.
            keys: The keys; one that comes twice is read once.
            wanted: What it accepts.

        Raises:
            BulkReadInvalidError: They are too few or too many.
            BulkReadTooLargeError: Their values add up to more than one answer may hold.
            NotArrivedError: As `read`.
        """
        limits = self._node.limits
        if not keys:
            raise BulkReadInvalidError(detail="You must request a minimum of 1 key")
        if len(keys) > limits.bulk_read_keys_max:
            detail = f"You can request a maximum of {limits.bulk_read_keys_max} keys"
            raise BulkReadInvalidError(detail=detail)
        asked = self._asked(request, tuple(dict.fromkeys(keys)), wanted)
        try:
            readings = await self._node.upstream.read_many(asked)
        except NotArrivedError:
            if not _may_go_back(asked, wanted):
                raise
            earlier = await self._node.upstream.read_many(replace(asked, at_least=None))
            readings = [replace(reading, stale=True) for reading in earlier]
        if sum(size_of(reading.entry) for reading in readings) > limits.bulk_read_bytes_max:
            raise BulkReadTooLargeError(size_bytes_max=limits.bulk_read_bytes_max)
        return dict(zip(asked.keys, readings, strict=True))

    def _asked(self, request: Request, keys: Sequence[str], wanted: Freshness) -> Read:
        """Put together what a request, its namespace and its keys ask for."""
        for key in keys:
            rules.check_key(self._node.limits, key)
        own_ms = request.rules.age_ms_max
        strict = request.rules.stale is Choice.REFUSE
        return Read(
            namespace=request.namespace,
            keys=keys,
            age_ms_max=own_ms if wanted.age_ms_max is None else wanted.age_ms_max,
            stale_ms_max=0 if strict else wanted.stale_ms_max,
            at_least=request.at_least,
            held_only=wanted.held_only,
        )

    async def put(
        self, request: Request, principal: Principal, *, metadata: bytes | None = None
    ) -> Written:
        """Store what `request` carries: a form's parts, or the whole body as it came.

        Args:
            request: The request; its operation and place were filled in.
            principal: Who asks.
            metadata: Text from elsewhere than a form.
        """
        is_form, boundary = boundary_of(request.headers.get(b"content-type"))
        if not is_form:
            return await self.put_body(request, principal, metadata=metadata)
        key = self._key(request)
        async with self._bodies.form(request, boundary) as form:
            given = metadata if form.metadata is None else form.metadata
            return await self._store(request, principal, key, form.value, given)

    async def put_body(
        self, request: Request, principal: Principal, *, metadata: bytes | None = None
    ) -> Written:
        """Store the whole body as it came, whatever its type says; see `put`."""
        key = self._key(request)
        small = await self._bodies.small_value(request)
        if small is not None:
            return await self._store(request, principal, key, small, metadata)
        async with self._bodies.value(request) as value:
            return await self._store(request, principal, key, value, metadata)

    def _key(self, request: Request) -> str:
        key = decode_key(request.key)
        rules.check_key(self._node.limits, key)
        return key

    async def _store(
        self,
        request: Request,
        principal: Principal,
        key: str,
        value: bytes,
        metadata_text: bytes | None,
    ) -> Written:
        limits = self._node.limits
        expiration = None
        expiration_text = ttl_text = None
        if request.query_string:
            expiration_text = request.query.get("expiration")
            ttl_text = request.query.get("expiration_ttl")
            expiration = rules.expires_at(
                limits,
                now_s=self._node.clock.now_us() / US_PER_S,
                expiration=expiration_text,
                expiration_ttl=ttl_text,
            )
        metadata = stored_form(limits, metadata_text) if metadata_text else None
        mutation = rules.put(
            limits,
            key=key,
            value=value,
            metadata=metadata,
            expiration=expiration,
            condition=rules.parse_condition(
                if_match=request.header(b"if-match"),
                if_none_match=request.header(b"if-none-match"),
            ),
        )
        said = (value, metadata or b"", f"{expiration_text} {ttl_text}".encode())
        return await self._write(request, principal, mutation, said)

    async def delete(self, request: Request, principal: Principal) -> Written:
        """Delete the key that `request` names. A body is neither needed nor read."""
        mutation = rules.delete(
            self._node.limits,
            key=decode_key(request.key),
            condition=rules.parse_condition(
                if_match=request.header(b"if-match"),
                if_none_match=request.header(b"if-none-match"),
            ),
        )
        return await self._write(request, principal, mutation, ())

    async def _write(
        self, request: Request, principal: Principal, mutation: Mutation, said: Iterable[bytes]
    ) -> Written:
        return await self._node.upstream.write(
            Batch(
                namespace=request.namespace,
                mutations=(mutation,),
                identity=identity_of(
                    request,
                    principal,
                    (mutation.key.encode(), *said, repr(mutation.condition).encode()),
                )
                if b"idempotency-key" in request.headers
                else None,
                rate_limited=self._rate_limited,
                journal_allowed=request.rules.journal is Choice.ALLOW,
            )
        )


def _may_go_back(asked: Read, wanted: Freshness) -> bool:
    """Whether what is before the position asked for will do, marked stale."""
    return wanted.max_stale and asked.stale_ms_max != 0


def size_of(entry: Entry | None) -> int:
    """Return the size of an entry's value, in bytes; of none, 0."""
    if entry is None or entry.value is None:
        return 0
    return len(entry.value) if isinstance(entry.value, bytes) else entry.value.size_bytes


async def whole_value(entry: Entry) -> bytes:
    """Return an entry's value in memory; the caller has looked at its size."""
    value = entry.value
    assert value is not None
    return value if isinstance(value, bytes) else b"".join([part async for part in value.chunks()])


def identity_of(request: Request, principal: Principal, said: Iterable[bytes]) -> Identity | None:
    """Return the identity that an `Idempotency-Key` gives a write; `None` without one.

    Args:
        request: The request.
        principal: Whose name it is: the same key from somebody else is another write.
        said: Everything that makes this request the one that it is, besides its operation and
            namespace. Not its expiration as computed, which moves with the clock.

    Raises:
        ParameterInvalidError: The header is empty or too long.
    """
    name = request.headers.get(b"idempotency-key")
    if name is None:
        return None
    if not 1 <= len(name) <= IDEMPOTENCY_KEY_BYTES_MAX:
        raise ParameterInvalidError(
            name="Idempotency-Key",
            given=name.decode("latin-1"),
            rule=f"Use 1 to {IDEMPOTENCY_KEY_BYTES_MAX} characters.",
        )
    digest = hashlib.blake2b(digest_size=_FINGERPRINT_BYTES)
    for part in (request.operation.encode(), request.namespace.encode(), *said):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return Identity(origin=f"client/{principal.id}", name=name, fingerprint=digest.digest())


def headers_of_write(written: Written) -> list[Header]:
    """Return what a write of one key says in headers: its version and its position."""
    return [etag(written.outcomes[0].version), at_position(written.token or written.position)]
