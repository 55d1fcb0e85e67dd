"""Cloudflare's SDK 4, in a process of its own environment that makes calls on request."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Final, Self

import msgspec

from tests.clients import installed
from tests.clients.plain import Access, Namespace

WORKER: Final = Path(__file__).parent / "sdk4_worker.py"
END_S_MAX: Final = 10.0


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call: a result, or the class of an error and what it knew."""

    result: object = None
    error: str = ""
    status: int = 0
    codes: list[int] = []


class OlderSdk:
    """The SDK as the owner of an account."""

    def __init__(self, access: Access) -> None:
        """Start the process."""
        self._account_id = access.account_id
        self._process = subprocess.Popen(
            [installed.older_cloudflare_sdk(), WORKER, access.api, access.token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.defpath},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=END_S_MAX)

    def outcome(
        self, namespace: Namespace, method: str, *arguments: object, **named: object
    ) -> Outcome:
        """Call a method of `client.kv.namespaces`, and return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        place = {"account_id": self._account_id, "namespace_id": namespace.id}
        call = {"method": method, "arguments": arguments, "named": place | named}
        self._process.stdin.write(json.dumps(call).encode() + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Outcome)

    def call(
        self, namespace: Namespace, method: str, *arguments: object, **named: object
    ) -> object:
        """Call a method that has to succeed, and return its result."""
        outcome = self.outcome(namespace, method, *arguments, **named)
        assert not outcome.error, outcome
        return outcome.result

    def value(self, namespace: Namespace, key: str) -> bytes:
        """Read a value that has to be there."""
        encoded = self.call(namespace, "values.get", key)
        assert isinstance(encoded, str)
        return base64.b64decode(encoded)
