"""Every number a caller can hit, its unit in its name, and the three presets.

`today` is what Workers KV promises now, `2019` what it was announced with, `open` only what
Atoll itself needs. Each field can be set by itself on top of a preset. MB is 10^6 bytes, MiB 2^20.
"""

from dataclasses import dataclass
from typing import Final

MB: Final = 10**6
MIB: Final = 2**20

KEY_BYTES_CEILING: Final = 512
"""What URLs, indexes and clients are planned for; the limit may be set lower, not higher."""

# Faces that a rule may be limited to. REST v4 is what administrators and deploy tools use; its
# clients rewrite a key at will, so Workers KV counts rewrites only where programs write.
FACE_REST: Final = "rest"
FACE_BINDING: Final = "binding"
FACE_V1: Final = "v1"
FACES: Final = (FACE_REST, FACE_BINDING, FACE_V1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may ask for. The defaults are the preset `today`."""

    key_bytes_max: int = 512
    value_bytes_max: int = 25 * MIB
    metadata_bytes_max: int = 1024
    title_chars_max: int = 512
    namespaces_per_account_max: int | None = 1000
    expiration_ahead_s_min: int = 60
    cache_ttl_s_min: int = 30
    rewrite_interval_ms: int = 1000
    rewrite_faces: tuple[str, ...] = (FACE_BINDING, FACE_V1)
    bulk_write_pairs_max: int = 10_000
    bulk_write_bytes_max: int = 100 * MB
    bulk_read_keys_max: int = 100
    bulk_read_bytes_max: int = 25 * MB
    list_keys_max: int = 1000
    list_keys_min_rest: int = 10
    list_values_bytes_max: int = 8 * MIB
    delete_prefix_keys_max: int = 10_000
    count_keys_max: int = 100_000
    discard_bytes_max: int = 400 * MB

    def __post_init__(self) -> None:
        assert 1 <= self.key_bytes_max <= KEY_BYTES_CEILING, self.key_bytes_max
        assert self.list_keys_min_rest <= self.list_keys_max
        assert set(self.rewrite_faces) <= set(FACES), self.rewrite_faces


PRESETS: Final[dict[str, Limits]] = {
    "today": Limits(),
    "2019": Limits(
        value_bytes_max=2 * MB,
        namespaces_per_account_max=20,
        rewrite_faces=FACES,
    ),
    "open": Limits(
        namespaces_per_account_max=None,
        expiration_ahead_s_min=1,
        rewrite_interval_ms=0,
        rewrite_faces=(),
    ),
}
