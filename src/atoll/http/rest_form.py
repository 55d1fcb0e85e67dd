"""The form of REST v4's answers: the envelope, and what each error looks like in it.

`result`, `success`, `errors` and `messages` are always there. Codes up to 10,999 and 7003 and
9106 mean what they mean at Cloudflare; those from 20,400 on are Atoll's own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from atoll.core.errors import (
    AtollError,
    ParameterInvalidError,
    UnauthenticatedError,
)
from atoll.http.exchange import Answer, Header, Request, headers_of, json_answer

INTERNAL_NUMBER: Final = 20500
MISSING_CREDENTIALS_NUMBER: Final = 9106
"""Instead of 10000: clients tell by it that a header is missing from one that is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How an error is answered."""

    status: int
    number: int
    number_by: Mapping[str, int] = field(default_factory=dict[str, int])
    """Other numbers for some operations, or for some parameters."""
    plain: bool = False
    """Whether the message stands alone, without the operation."""


REFUSALS: Final[Mapping[str, Refusal]] = {
    "internal": Refusal(status=500, number=INTERNAL_NUMBER),
    "invalid_request": Refusal(status=400, number=20400),
    "key_empty": Refusal(status=400, number=10042),
    "key_too_long": Refusal(status=414, number=10030),
    "key_illegal": Refusal(status=400, number=10042),
    "key_encoding": Refusal(status=400, number=10042),
    "value_too_large": Refusal(status=413, number=10024),
    "metadata_too_large": Refusal(status=413, number=10147),
    "metadata_invalid": Refusal(status=400, number=10147),
    "expiration_invalid": Refusal(status=400, number=10033),
    "expiration_ttl_invalid": Refusal(status=400, number=10034),
    "cursor_invalid": Refusal(status=400, number=10041),
    "parameter_invalid": Refusal(
        status=400,
        number=20400,
        number_by={
            "page": 10007,
            "per_page": 10008,
            "limit": 10028,
            "order": 10043,
            "direction": 10044,
        },
    ),
    "body_invalid": Refusal(
        status=400,
        number=20400,
        number_by={
            "create namespace": 10010,
            "rename namespace": 10010,
            "bulk put keys": 10012,
            "bulk remove keys": 10012,
            "bulk get keys": 10029,
        },
    ),
    "body_too_large": Refusal(status=413, number=10024),
    "bulk_invalid": Refusal(status=400, number=10012),
    "bulk_read_invalid": Refusal(status=400, number=10029),
    "bulk_read_too_large": Refusal(status=413, number=10024),
    "title_invalid": Refusal(status=400, number=10019),
    "title_taken": Refusal(status=400, number=10014),
    "namespace_id_invalid": Refusal(status=400, number=10011),
    "condition_invalid": Refusal(status=400, number=20400),
    "idempotency_key_reused": Refusal(status=422, number=20422),
    "route_not_found": Refusal(status=404, number=7003, plain=True),
    "method_not_allowed": Refusal(status=405, number=10405, plain=True),
    "not_found": Refusal(status=404, number=20404),
    "key_not_found": Refusal(status=404, number=10009),
    "namespace_not_found": Refusal(status=404, number=10013),
    "account_not_found": Refusal(status=404, number=7003),
    "token_not_found": Refusal(status=404, number=20404),
    "node_not_found": Refusal(status=404, number=20404),
    "location_not_found": Refusal(status=404, number=20404),
    "journal_entry_not_found": Refusal(status=404, number=20404),
    "unauthenticated": Refusal(status=401, number=10000, plain=True),
    "forbidden": Refusal(status=403, number=10000, plain=True),
    "condition_failed": Refusal(status=412, number=20412),
    "limit_reached": Refusal(status=429, number=10022),
    "rewrite_too_soon": Refusal(status=429, number=10022),
    "quota_reached": Refusal(status=429, number=20429),
    "too_many_namespaces": Refusal(status=403, number=10018),
    "unavailable": Refusal(status=503, number=10001),
    "not_arrived": Refusal(status=503, number=20503),
    "deadline_passed": Refusal(status=503, number=20504),
    "outcome_forgotten": Refusal(status=503, number=20505),
    "position_too_old": Refusal(status=410, number=20506),
    "feed_started_over": Refusal(status=503, number=20513),
    "too_many_watches": Refusal(status=503, number=20514),
    "stopping": Refusal(status=503, number=10001),
    "unreachable": Refusal(status=503, number=20520),
    "not_admitted": Refusal(status=503, number=20520),
    "cut_off": Refusal(status=503, number=20521),
    "central_only": Refusal(status=421, number=20421, plain=True),
    "location_only": Refusal(status=421, number=20421, plain=True),
    "not_held": Refusal(status=504, number=20526),
    "outcome_unknown": Refusal(status=503, number=20522),
    "journal_full": Refusal(status=503, number=20523),
    "location_unknown": Refusal(status=503, number=20524),
    "location_forgotten": Refusal(status=403, number=20525),
    "store_failed": Refusal(status=500, number=20510),
    "disk_full": Refusal(status=507, number=20507),
    "store_in_use": Refusal(status=500, number=20510),
    "location_in_use": Refusal(status=500, number=20510),
    "store_not_found": Refusal(status=500, number=20510),
    "store_exists": Refusal(status=500, number=20510),
    "schema_too_new": Refusal(status=500, number=20510),
    "sealing_key_missing": Refusal(status=500, number=20511),
    "sealing_key_wrong": Refusal(status=500, number=20511),
    "corrupt_data": Refusal(status=500, number=20512),
    "config_invalid": Refusal(status=500, number=INTERNAL_NUMBER),
    "remote": Refusal(status=502, number=20502),
}

_encode = msgspec.json.Encoder().encode

_SUCCEEDED: Final = b'"success":true,"errors":[],"messages":[]}'
NULL_BODY: Final = b'{"result":null,' + _SUCCEEDED


def succeed(
    result: object,
    *,
    result_info: Mapping[str, object] | None = None,
    headers: Iterable[Header] = (),
) -> Answer:
    """Put a result into the envelope."""
    info = b"" if result_info is None else b'"result_info":' + _encode(result_info) + b","
    return json_answer(b'{"result":' + _encode(result) + b"," + info + _SUCCEEDED, headers=headers)


def succeed_with_null(headers: Iterable[Header] = ()) -> Answer:
    """Say that it was done, with nothing to tell."""
    return json_answer(NULL_BODY, headers=headers)


def refuse(request: Request, error: Exception) -> Answer:
    """Put an error into the envelope. What is no `AtollError` tells the client nothing."""
    if not isinstance(error, AtollError):
        message = f"internal error; the server's log has it under request {request.id}"
        return json_answer(envelope(INTERNAL_NUMBER, message), status=500)
    refusal = REFUSALS[error.code]
    number = refusal.number
    if refusal.number_by:
        facet = error.name if isinstance(error, ParameterInvalidError) else request.operation
        number = refusal.number_by.get(facet, number)
    if isinstance(error, UnauthenticatedError) and error.missing:
        number = MISSING_CREDENTIALS_NUMBER
    message = str(error) if refusal.plain else f"{request.operation}: '{error}'"
    return json_answer(envelope(number, message), status=refusal.status, headers=headers_of(error))


def envelope(number: int, message: str) -> bytes:
    """Encode the envelope of an error."""
    return _encode(
        {
            "result": None,
            "success": False,
            "errors": [{"code": number, "message": message}],
            "messages": [],
        }
    )
