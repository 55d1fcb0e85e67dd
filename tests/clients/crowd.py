"""Accounts with a given number of namespaces, made once and used by every client."""

from collections.abc import Callable

import msgspec

from tests.clients.plain import Access, create, succeed

CROWDS = (0, 1, 100, 101, 1000, 1001)
"""None, one, and both sides of the pages that wrangler asks for: 100 rows, and 1,000."""

Crowd = Callable[[int], Access]


class _Account(msgspec.Struct):
    id: str


def crowds(access: Access) -> Crowd:
    """Return a function from a number to an account of that many namespaces."""
    made: dict[int, Access] = {}

    def crowd(size: int) -> Access:
        if size not in made:
            body = msgspec.json.encode({"name": f"{size} namespaces"})
            account = msgspec.convert(
                succeed(access, "POST", "/accounts", body=body).result, _Account
            )
            made[size] = msgspec.structs.replace(access, account_id=account.id)
            for number in range(size):
                create(made[size], title(number))
        return made[size]

    return crowd


def title(number: int) -> str:
    """Return the title of a namespace of a crowd; they sort as their numbers do."""
    return f"space-{number:04}"
