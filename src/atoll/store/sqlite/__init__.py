"""Central's store on SQLite, through apsw: `SqliteStore`, backup and restore.

`driver` is where apsw is, `schema` has the tables, `store` the class and how it opens, `writer`
the group commit, `transaction`, `applying` and `sweeping` what is done in one, `reader` and
`records` what is read.
"""

from atoll.store.sqlite.driver import Access
from atoll.store.sqlite.store import SqliteStore

__all__ = ["Access", "SqliteStore"]
