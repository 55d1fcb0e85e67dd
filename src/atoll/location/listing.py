"""Lists at a location: central's page, with what the location's own journal says instead."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from atoll.core import rules
from atoll.core.model import VALUE_INLINE_BYTES_MAX, Include, Listed, ListQuery, Page
from atoll.location.pins import Pin, Pins

US_PER_S = 1_000_000


async def merged(
    query: ListQuery,
    *,
    pins: Pins,
    now_us: int,
    ask: Callable[[ListQuery], Awaitable[Page]],
) -> Page:
    """Return a page of central's keys with journaled writes in their places.

    Args:
        query: What is asked for.
        pins: What the journal shows.
        now_us: Central time, in microseconds since the Unix epoch.
        ask: Asks the upstream.
    """
    journaled = [
        pin
        for pin in pins.of_prefix(query.namespace, query.prefix)
        if query.after is None or pin.mutation.key > query.after
    ]
    if not journaled:
        return await ask(query)
    counting = query.include is Include.COUNT
    page = await ask(replace(query, include=Include.KEYS) if counting else query)
    items = {item.key: item for item in page.items}
    for pin in journaled:
        key = pin.mutation.key
        if page.after is not None and key > page.after:
            continue
        held = items.get(key)
        if held is not None and held.version > pin.version:
            continue
        items.pop(key, None)
        if rules.is_live(pin.entry(), now_us / US_PER_S):
            items[key] = _listed(pin, query.include)
    in_order = [items[key] for key in sorted(items)]
    after = page.after
    if len(in_order) > query.limit:
        in_order = in_order[: query.limit]
        after = in_order[-1].key
    return Page(
        items=() if counting else in_order,
        count=len(in_order),
        after=after,
        position=page.position,
    )


def _listed(pin: Pin, include: Include) -> Listed:
    """Show a journaled write in a page."""
    mutation = pin.mutation
    value = mutation.value or b""
    carried = include is Include.VALUES and len(value) <= VALUE_INLINE_BYTES_MAX
    return Listed(
        key=mutation.key,
        version=pin.version,
        size_bytes=len(value),
        metadata=mutation.metadata,
        expiration=mutation.expiration,
        value=value if carried else None,
    )
