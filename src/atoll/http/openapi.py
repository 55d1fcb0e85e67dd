"""The OpenAPI 3.1 document: written by hand in `openapi.json`, with the limits filled in.

Where the document says `{"$limit": "key_bytes_max"}`, the node's own limit stands in what it
serves, so the two cannot disagree.
"""

from dataclasses import asdict
from importlib import resources
from typing import Final, cast

import msgspec

from atoll.core.limits import Limits

_MARK: Final = "$limit"

# Read when the module is, which is before there is a loop that reading could hold up.
_SOURCE: Final = resources.files("atoll.http").joinpath("openapi.json").read_bytes()

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def document(limits: Limits) -> bytes:
    """Return the document as a node with these limits serves it."""
    return msgspec.json.encode(_filled(cast("Json", msgspec.json.decode(_SOURCE)), asdict(limits)))


def _filled(part: Json, limits: dict[str, int]) -> Json:
    if isinstance(part, list):
        return [_filled(item, limits) for item in part]
    if not isinstance(part, dict):
        return part
    if part.keys() == {_MARK}:
        return limits[str(part[_MARK])]
    return {name: _filled(member, limits) for name, member in part.items()}
