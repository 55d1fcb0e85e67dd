"""Cursors: where the next page of a listing starts.

A cursor is the last key of the page before, with a digest that ties it to the listing it came
from. It needs no secret, for it opens nothing: it only keeps a cursor of one listing from being
taken for one of another.
"""

import base64
import binascii
import hashlib
from typing import Final

from atoll.core.errors import CursorInvalidError

DIGEST_BYTES: Final = 8


def cursor_after(namespace: str, prefix: str, key: str) -> str:
    """Return the cursor of the page that starts behind `key`."""
    raw = key.encode()
    return base64.urlsafe_b64encode(_digest(namespace, prefix, raw) + raw).decode().rstrip("=")


def key_before(namespace: str, prefix: str, cursor: str) -> str:
    """Return the key behind which the page of `cursor` starts.

    Raises:
        CursorInvalidError: It is not from the listing of `prefix` in `namespace`.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, key = raw[:DIGEST_BYTES], raw[DIGEST_BYTES:]
        if digest != _digest(namespace, prefix, key):
            raise CursorInvalidError
        return key.decode()
    except (binascii.Error, ValueError) as error:  # UnicodeError is a ValueError
        raise CursorInvalidError from error


def _digest(namespace: str, prefix: str, key: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in (namespace.encode(), prefix.encode(), key):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()
