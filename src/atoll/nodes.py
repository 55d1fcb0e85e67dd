"""The credentials of nodes, kept as entries of the system namespace.

    credential/<name>     what the location of that name shows its upstream

They are apart from users' tokens: a node's credential opens the peer face and nothing else, and no
token opens that. A location reads them through its upstream as it reads everything, so that it can
admit the locations below it.
"""

import hmac
from collections.abc import Callable
from typing import Final

import msgspec

from atoll.accounts import digest_of
from atoll.clock import Clock
from atoll.core.errors import NodeNotFoundError, UnauthenticatedError
from atoll.core.location_errors import CutOffError
from atoll.core.model import SYSTEM_NAMESPACE, Batch, Include, ListQuery, Mutation, Read
from atoll.registry import check_name
from atoll.upstream import Upstream

CREDENTIAL_PREFIX: Final = "credential/"
SECRET_PREFIX: Final = "atollnode_"  # noqa: S105 - what they begin with, for people and scanners
SECRET_BYTES: Final = 20
MS_PER_S: Final = 1000
LIST_VALUES_BYTES_MAX: Final = 2**20


class NodeCredential(msgspec.Struct, frozen=True, kw_only=True):
    """What one location is known by; the secret itself is shown once and not kept."""

    name: str
    digest: str
    created_us: int


class Nodes:
    """Finds and changes the credentials of nodes."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        grace_s: int | None = None,
    ) -> None:
        """Read and write through `upstream`.

        Args:
            upstream: Where the entries are.
            clock: When a credential was made.
            random_bytes: Where secrets come from; must be fit for that.
            grace_s: How far beyond its bound a known credential is honoured while central cannot
                be asked; without, for ever.
        """
        self._upstream = upstream
        self._clock = clock
        self._random_bytes = random_bytes
        self._stale_ms_max = None if grace_s is None else grace_s * MS_PER_S

    async def admit(self, authorization: str | None) -> str:
        """Return the name of the location that a request comes from.

        Args:
            authorization: The `Authorization` header.

        Raises:
            UnauthenticatedError: It names no location that is known.
            CutOffError: Central cannot be asked, and it is not known here.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        name = secret.strip().removeprefix(SECRET_PREFIX).rpartition("_")[0]
        if scheme.lower() != "bearer" or not secret.startswith(SECRET_PREFIX) or not name:
            raise UnauthenticatedError(
                detail="nodes show a node's credential (Authorization: Bearer atollnode_...), from"
                " `atoll node create`",
                missing=authorization is None,
            )
        reading = await self._upstream.read(
            Read(
                namespace=SYSTEM_NAMESPACE,
                keys=(CREDENTIAL_PREFIX + name,),
                stale_ms_max=self._stale_ms_max,
            )
        )
        if reading.entry is None and reading.stale:
            raise CutOffError(detail="this node's credential is not known here")
        if reading.entry is None or not isinstance(reading.entry.value, bytes):
            raise UnauthenticatedError
        known = _decoded(reading.entry.value)
        if not hmac.compare_digest(known.digest, digest_of(secret.strip())):
            raise UnauthenticatedError
        return known.name

    async def create(self, name: str) -> str:
        """Make a location's credential, in the place of an earlier one, and return the secret.

        Raises:
            ParameterInvalidError: The name is none.
        """
        check_name(name)
        secret = f"{SECRET_PREFIX}{name}_{self._random_bytes(SECRET_BYTES).hex()}"
        made = NodeCredential(name=name, digest=digest_of(secret), created_us=self._clock.now_us())
        await self._write(Mutation(key=CREDENTIAL_PREFIX + name, value=msgspec.json.encode(made)))
        return secret

    async def list(self) -> list[NodeCredential]:
        """Return all credentials, by name."""
        found: list[NodeCredential] = []
        after: str | None = None
        while True:
            page = await self._upstream.list(
                ListQuery(
                    namespace=SYSTEM_NAMESPACE,
                    prefix=CREDENTIAL_PREFIX,
                    after=after,
                    include=Include.VALUES,
                    values_bytes_max=LIST_VALUES_BYTES_MAX,
                )
            )
            found += [_decoded(item.value or b"") for item in page.items]
            after = page.after
            if after is None:
                return found

    async def revoke(self, name: str) -> None:
        """Delete a location's credential; an open session ends in seconds.

        Raises:
            NodeNotFoundError: There is none.
        """
        key = CREDENTIAL_PREFIX + name
        reading = await self._upstream.read(
            Read(namespace=SYSTEM_NAMESPACE, keys=(key,), age_ms_max=0, stale_ms_max=0)
        )
        if reading.entry is None:
            raise NodeNotFoundError(name=name)
        await self._write(Mutation(key=key, value=None))

    async def _write(self, mutation: Mutation) -> None:
        await self._upstream.write(
            Batch(namespace=SYSTEM_NAMESPACE, mutations=(mutation,), journal_allowed=False)
        )


def _decoded(value: bytes) -> NodeCredential:
    return msgspec.json.decode(value, type=NodeCredential)
