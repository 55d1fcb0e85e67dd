"""Who is signed in: a browser's cookie stands for a token, which the browser itself never holds.

Sessions are kept in memory, so a restart of central ends them. Each request is made with the
session's token and decided like any other; a token that is revoked takes its sessions with it.
"""

from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from atoll.clock import Clock
from atoll.store.protocol import Usage

SESSION_S: Final = 12 * 3600
"""How long a session lasts, whatever is done in it."""
LINK_S: Final = 12 * 3600
"""How long a link waits for its one use."""
SESSIONS_MAX: Final = 1000
"""Beyond that, the oldest ends."""
LINKS_MAX: Final = 100

SECRET_BYTES: Final = 32
MS_PER_S: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that is signed in."""

    id: str
    """What its cookie says."""
    csrf: str
    """What its own pages say with each write, and no other site can."""
    token: str
    ends_ms: int
    """By the elapsed clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    token: str
    ends_ms: int


Kept = TypeVar("Kept", Session, _Link)


class Sessions:
    """All browsers that are signed in at this central, and links that were not used yet."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        """Start with nobody.

        Args:
            clock: What ends sessions.
            random_bytes: Where secrets come from; must be fit for that.
        """
        self._clock = clock
        self._random_bytes = random_bytes
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._links: OrderedDict[str, _Link] = OrderedDict()

    def link(self, token: str) -> str:
        """Return a code that signs in with `token`, once."""
        code = self._secret()
        ends_ms = self._clock.elapsed_ms() + LINK_S * MS_PER_S
        _keep(self._links, code, _Link(token=token, ends_ms=ends_ms), LINKS_MAX)
        return code

    def redeem(self, code: str) -> str | None:
        """Return the token that a code stands for, and forget the code; `None` if it is spent."""
        link = self._links.pop(code, None)
        return None if link is None or self._is_over(link) else link.token

    def begin(self, token: str) -> Session:
        """Begin a session; the token was found to be good."""
        session = Session(
            id=self._secret(),
            csrf=self._secret(),
            token=token,
            ends_ms=self._clock.elapsed_ms() + SESSION_S * MS_PER_S,
        )
        _keep(self._sessions, session.id, session, SESSIONS_MAX)
        return session

    def find(self, session_id: str) -> Session | None:
        """Return the session that a cookie names, if it goes on."""
        session = self._sessions.get(session_id)
        if session is None or not self._is_over(session):
            return session
        self.end(session_id)
        return None

    def end(self, session_id: str) -> None:
        """End a session."""
        self._sessions.pop(session_id, None)

    def _is_over(self, kept: Session | _Link) -> bool:
        return self._clock.elapsed_ms() >= kept.ends_ms

    def _secret(self) -> str:
        return urlsafe_b64encode(self._random_bytes(SECRET_BYTES)).rstrip(b"=").decode()


def _keep(kept: OrderedDict[str, Kept], name: str, what: Kept, count_max: int) -> None:
    kept[name] = what
    if len(kept) > count_max:
        kept.popitem(last=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the dashboard needs besides what every face has."""

    sessions: Sessions
    stored: Callable[[str], Awaitable[Usage]]
    """Tells what a namespace holds."""
    secure: bool
    """Whether browsers come by TLS, so that the cookie may say so."""
