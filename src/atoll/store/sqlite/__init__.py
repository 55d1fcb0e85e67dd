"""Central's store on SQLite, through apsw: `SqliteStore`, backup and restore.

`driver` is where apsw is, `schema` has the tables, `opening` how a store begins, `store` the class,
`writer` the group commit, `transaction`, `applying`, `sweeping` and `resealing` what is done in
one, `reader` and `records` what is read, `backup` copies.
"""

from atoll.store.sqlite.backup import Backup, back_up, restore
from atoll.store.sqlite.driver import Access
from atoll.store.sqlite.resealing import Resealed
from atoll.store.sqlite.store import SqliteStore

__all__ = ["Access", "Backup", "Resealed", "SqliteStore", "back_up", "restore"]
