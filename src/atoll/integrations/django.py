"""A cache backend for Django: its whole contract, over a namespace.

    CACHES = {
        "default": {
            "BACKEND": "atoll.integrations.django.AtollCache",
            "LOCATION": "http://127.0.0.1:8781",  # or the path of a location's folder
            "OPTIONS": {"NAMESPACE": "<id>", "TOKEN": "..."},
        }
    }

Values are pickled, as in Django's other backends: whoever may write the namespace can run code in
every process that reads it. `"SERIALIZER": "json"` stores JSON instead.

When a value expires is kept beside it, to the millisecond, because a namespace keeps nothing for
less than a minute. It is judged by this machine's clock, as in Django's other backends.
"""

import atexit
import json
import math
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

from django.core.cache.backends.base import (
    DEFAULT_TIMEOUT,
    BaseCache,
    InvalidCacheKey,
    default_key_func,
)
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from atoll import connect
from atoll.client import Answer, Bounds, Client, Namespace
from atoll.clock import SystemClock
from atoll.core import rules
from atoll.core.errors import ConditionFailedError, InvalidRequestError, RewriteTooSoonError
from atoll.core.limits import Limits

TIMEOUT_S: Final = 10.0
TTL_S_MIN: Final = 60
"""The shortest time to live that a namespace takes, by its usual limits."""
ATTEMPTS_MAX: Final = 20
"""How often a change that others came before is tried again."""
WAITS_MAX: Final = 3
"""How often a write waits because its key was written a moment ago: a second each time."""
MS_PER_S: Final = 1000
US_PER_MS: Final = 1000

OPTIONS: Final = frozenset(
    {"NAMESPACE", "TOKEN", "CA", "TIMEOUT_S", "MAX_AGE", "MAX_STALE", "SERIALIZER", "TTL_S_MIN"}
)

_EXPIRES: Final = "expires_ms"
_CEILING: Final = Limits()

_clients: Final[dict[tuple[object, ...], Client]] = {}
_clients_lock = threading.Lock()


@atexit.register
def _close_clients() -> None:
    for client in _clients.values():
        client.close()


class Serializer(Protocol):
    """Turns what is cached into bytes and back."""

    def dumps(self, value: Any, /) -> bytes:  # noqa: ANN401 - whatever is cached
        """Return the bytes of a value."""
        ...

    def loads(self, raw: bytes, /) -> Any:  # noqa: ANN401 - as above
        """Return the value that was made these bytes."""
        ...


class PickleSerializer:
    """Stores any Python value; loading it can run any code that was stored."""

    def dumps(self, value: Any, /) -> bytes:  # noqa: ANN401 - as in `Serializer`
        """See `Serializer`."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def loads(self, raw: bytes, /) -> Any:  # noqa: ANN401 - as in `Serializer`
        """See `Serializer`."""
        return pickle.loads(raw)  # noqa: S301 - as Django does; the documentation warns


class JsonSerializer:
    """Stores JSON values, and runs nothing. Tuples come back as lists."""

    def dumps(self, value: Any, /) -> bytes:  # noqa: ANN401 - as in `Serializer`
        """See `Serializer`."""
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()

    def loads(self, raw: bytes, /) -> Any:  # noqa: ANN401 - as in `Serializer`
        """See `Serializer`."""
        return json.loads(raw)


SERIALIZERS: Final[Mapping[str, type[Serializer]]] = {
    "pickle": PickleSerializer,
    "json": JsonSerializer,
}


class AtollCache(BaseCache):
    """One of `CACHES`. Raises errors of the tree under `AtollError`: no cache fails silently."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        """Read the settings; nothing is connected before the first use.

        Args:
            location: As `atoll.connect` takes it.
            params: What stands in `CACHES`.

        Raises:
            ImproperlyConfigured: `OPTIONS` lacks the namespace, or has something unknown.
        """
        super().__init__(params)
        options: dict[str, Any] = params.get("OPTIONS", {})
        unknown = options.keys() - OPTIONS
        if unknown or "NAMESPACE" not in options:
            message = (
                f"the OPTIONS of an Atoll cache need NAMESPACE, its id, and may have"
                f" {', '.join(sorted(OPTIONS - {'NAMESPACE'}))}; given are {sorted(options)}"
            )
            raise ImproperlyConfigured(message)
        self._location = location
        self._options = options
        self._ttl_s_min = int(options.get("TTL_S_MIN", TTL_S_MIN))
        self._clock = SystemClock()
        self._serializer = _serializer(options.get("SERIALIZER", "pickle"))
        self._bounds = Bounds()
        if options.get("MAX_AGE") is not None:
            self._bounds["max_age"] = options["MAX_AGE"]
        if options.get("MAX_STALE") is not None:
            self._bounds["max_stale"] = options["MAX_STALE"]

    @property
    def _space(self) -> Namespace:
        """The namespace. All threads share one client for each node."""
        options = self._options
        token, ca = options.get("TOKEN"), options.get("CA")
        timeout_s = float(options.get("TIMEOUT_S", TIMEOUT_S))
        name = (self._location, token, ca, timeout_s)
        with _clients_lock:
            client = _clients.get(name)
            if client is None:
                client = _clients[name] = connect(
                    self._location,
                    token=token,
                    ca=None if ca is None else Path(ca),
                    timeout_s=timeout_s,
                )
        return client.namespace(options["NAMESPACE"])

    # Django's contract. The names and their order are Django's.

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:  # noqa: ANN401
        """Return what is cached, `default` if nothing is."""
        answer = self._read(self.make_and_validate_key(key, version=version))
        return default if answer is None else self._loaded(answer)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return what is cached of several keys."""
        named = {self.make_and_validate_key(key, version=version): key for key in keys}
        answers = self._space.get_many_with_metadata(named, "bytes", **self._bounds)
        return {
            named[name]: self._loaded(answer)
            for name, answer in answers.items()
            if self._is_live(answer)
        }

    def has_key(self, key: Any, version: int | None = None) -> bool:  # noqa: ANN401
        """Whether something is cached."""
        return self._read(self.make_and_validate_key(key, version=version)) is not None

    def set(
        self,
        key: Any,  # noqa: ANN401 - as Django has it
        value: Any,  # noqa: ANN401 - as Django has it
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ANN401 - seconds, `None` or Django's default
        version: int | None = None,
    ) -> None:
        """Cache a value for so many seconds: `None` for ever, 0 or less not at all."""
        self._store(
            self.make_and_validate_key(key, version=version),
            self._serializer.dumps(value),
            self._expires_ms(timeout),
        )

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ANN401 - as in `set`
        version: int | None = None,
    ) -> list[Any]:
        """Cache several values. None fails without an error, so the list is empty."""
        for key, value in data.items():
            self.set(key, value, timeout=timeout, version=version)
        return []

    def add(
        self,
        key: Any,  # noqa: ANN401 - as in `set`
        value: Any,  # noqa: ANN401 - as in `set`
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ANN401 - as in `set`
        version: int | None = None,
    ) -> bool:
        """Cache a value where nothing is cached, and say whether it was: of two, one does."""
        name = self.make_and_validate_key(key, version=version)
        raw, expires_ms = self._serializer.dumps(value), self._expires_ms(timeout)
        for _ in range(ATTEMPTS_MAX):
            answer = self._space.get_with_metadata(name, "bytes", max_age=0)
            if self._is_live(answer):
                return False
            try:
                self._store(name, raw, expires_ms, over=answer)
            except ConditionFailedError:
                continue
            return True
        return False

    def touch(
        self,
        key: Any,  # noqa: ANN401 - as in `set`
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ANN401 - as in `set`
        version: int | None = None,
    ) -> bool:
        """Have a value expire at another time, and say whether it was there."""
        expires_ms = self._expires_ms(timeout)
        return self._changed(key, version, lambda answer: (answer.value or b"", expires_ms))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:  # noqa: ANN401
        """Add to a number that is cached; of several who do, none is lost.

        Raises:
            ValueError: Nothing is cached.
        """
        sums: list[int] = []

        def added(answer: Answer[bytes]) -> tuple[bytes, float | None]:
            sums.append(self._loaded(answer) + delta)
            return self._serializer.dumps(sums[-1]), _expires_ms_of(answer)

        if not self._changed(key, version, added):
            message = f"Key '{key}' not found"
            raise ValueError(message)
        return sums[-1]

    def delete(self, key: Any, version: int | None = None) -> bool:  # noqa: ANN401
        """Let go of a value, and say whether it was there, as far as is known here."""
        name = self.make_and_validate_key(key, version=version)
        was_there = self._read(name) is not None
        self._patiently(lambda: self._space.delete(name))
        return was_there

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Let go of several values."""
        for key in keys:
            self.delete(key, version=version)

    def clear(self) -> None:
        """Let go of everything under this cache's `KEY_PREFIX`, in all versions.

        Raises:
            ImproperlyConfigured: A `KEY_FUNCTION` of one's own: what it makes cannot be told from
                what else is in the namespace.
        """
        if self.key_func is not default_key_func:
            message = "clear() needs keys that begin with KEY_PREFIX; this cache has a KEY_FUNCTION"
            raise ImproperlyConfigured(message)
        self._space.delete_prefix(f"{self.key_prefix}:")

    def validate_key(self, key: str) -> None:
        """Warn of what other backends refuse, and refuse what this one does.

        Raises:
            InvalidCacheKey: It is no key of a namespace: more than 512 bytes, for one.
        """
        super().validate_key(key)
        try:
            rules.check_key(_CEILING, key)
        except InvalidRequestError as error:
            raise InvalidCacheKey(str(error)) from error

    # How.

    def _read(self, name: str) -> Answer[bytes] | None:
        answer = self._space.get_with_metadata(name, "bytes", **self._bounds)
        return answer if self._is_live(answer) else None

    def _loaded(self, answer: Answer[bytes]) -> Any:  # noqa: ANN401 - whatever was cached
        assert answer.value is not None
        return self._serializer.loads(answer.value)

    def _is_live(self, answer: Answer[bytes]) -> bool:
        if answer.value is None:
            return False
        expires_ms = _expires_ms_of(answer)
        return expires_ms is None or expires_ms > self._now_ms()

    def _now_ms(self) -> int:
        return self._clock.now_us() // US_PER_MS

    def _expires_ms(self, timeout: Any) -> float | None:  # noqa: ANN401 - as in `set`
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None else self._now_ms() + timeout * MS_PER_S

    def _changed(
        self,
        key: object,
        version: int | None,
        make: Callable[[Answer[bytes]], tuple[bytes, float | None]],
    ) -> bool:
        """Replace a value by what `make` makes of it, unless it changed meanwhile; then anew."""
        name = self.make_and_validate_key(key, version=version)
        for _ in range(ATTEMPTS_MAX):
            answer = self._space.get_with_metadata(name, "bytes", max_age=0)
            if not self._is_live(answer):
                return False
            raw, expires_ms = make(answer)
            try:
                self._store(name, raw, expires_ms, over=answer)
            except ConditionFailedError:
                continue
            return True
        message = f"{name!r} was changed by others {ATTEMPTS_MAX} times while it was to be changed"
        raise RuntimeError(message)

    def _store(
        self,
        name: str,
        raw: bytes,
        expires_ms: float | None,
        *,
        over: Answer[bytes] | None = None,
    ) -> None:
        """Store a value, or nothing if its time has passed; `over` what was there, if that counts.

        Raises:
            ConditionFailedError: Something else is there than was.
        """
        version = None if over is None else over.version
        left_s = None if expires_ms is None else (expires_ms - self._now_ms()) / MS_PER_S
        if left_s is not None and left_s <= 0:
            if over is None or version is not None:
                self._patiently(lambda: self._space.delete(name, if_match=version))
            return
        self._patiently(
            lambda: self._space.put(
                name,
                raw,
                expiration_ttl=None if left_s is None else max(math.ceil(left_s), self._ttl_s_min),
                metadata=None if expires_ms is None else {_EXPIRES: expires_ms},
                if_match=version,
                if_none_match="*" if over is not None and version is None else None,
            )
        )

    def _patiently(self, write: Callable[[], object]) -> None:
        """Write, and wait where the key was written a moment ago."""
        for _ in range(WAITS_MAX):
            try:
                write()
            except RewriteTooSoonError as error:
                time.sleep(error.retry_after_ms / MS_PER_S)  # noqa: TID251 - Django's calls wait
            else:
                return
        write()


def _expires_ms_of(answer: Answer[bytes]) -> float | None:
    metadata = answer.metadata
    if not isinstance(metadata, dict):
        return None
    return cast("dict[str, float | None]", metadata).get(_EXPIRES)


def _serializer(named: object) -> Serializer:
    """Return a serializer: by its short name, by the path of its class, or as it is."""
    if isinstance(named, str):
        kind = SERIALIZERS.get(named) or cast("type[Serializer]", import_string(named))
        return kind()
    return cast("Serializer", named() if isinstance(named, type) else named)
