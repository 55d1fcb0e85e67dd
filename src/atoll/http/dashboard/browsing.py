"""Keys as people browse them: flat, or as folders between slashes.

A folder costs one look, however much is in it: behind its first key the listing goes on where the
folder ends. So a page takes about as many looks as it has folders.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from atoll.core.limits import KEY_BYTES_CEILING
from atoll.core.model import Listed, ListQuery
from atoll.upstream import Upstream

ROWS_MAX: Final = 100
"""Keys and folders on a page."""
LOOKS_MAX: Final = 2 * ROWS_MAX
"""How often a page asks for keys."""
LOOK_KEYS: Final = 50

DELIMITER: Final = "/"
_LAST: Final = "\U0010ffff" * (KEY_BYTES_CEILING // 4)
"""No key with a prefix stands behind the prefix and this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A page of a listing."""

    folders: Sequence[str]
    """Whole prefixes, with the slash at their end."""
    keys: Sequence[Listed]
    after: str | None
    """Where the next page begins; `None` on the last."""


async def browse(
    upstream: Upstream, namespace: str, *, prefix: str, after: str | None, folded: bool
) -> Shelf:
    """Return a page of what is under a prefix.

    Args:
        upstream: What is read.
        namespace: Whose keys.
        prefix: What they begin with.
        after: Where to begin, as an earlier page said.
        folded: Whether keys with a slash behind the prefix are shown as their folder.
    """
    query = ListQuery(namespace=namespace, prefix=prefix, after=after, limit=ROWS_MAX)
    if not folded:
        page = await upstream.list(query)
        return Shelf(folders=(), keys=page.items, after=page.after)
    folders: list[str] = []
    keys: list[Listed] = []
    for _ in range(LOOKS_MAX):
        page = await upstream.list(replace(query, after=after, limit=LOOK_KEYS))
        after = page.after
        for item in page.items:
            head, slash, _ = item.key[len(prefix) :].partition(DELIMITER)
            folder = prefix + head + slash
            if not slash:
                keys.append(item)
            elif not folders or folders[-1] != folder:
                folders.append(folder)
            if len(folders) + len(keys) == ROWS_MAX:
                end = item.key if not slash else folder + _LAST
                rest = await upstream.list(replace(query, after=end, limit=1))
                return Shelf(folders=folders, keys=keys, after=end if rest.items else None)
        if after is None:
            break
        last = page.items[-1].key
        if folders and last.startswith(folders[-1]):
            after = folders[-1] + _LAST
    return Shelf(folders=folders, keys=keys, after=after)
