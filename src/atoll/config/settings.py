"""The settings themselves: each a field with its default, unit, bounds and a sentence.

docs/settings.md is held to them by a test; `loading` puts them together from a file, the
environment and flags.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from atoll.core.limits import FACES, KEY_BYTES_CEILING, PRESETS, Limits

FILE_NAME: Final = "atoll.toml"

DAY_S: Final = 86_400
BYTES_MAX: Final = 2**40
COUNT_MAX: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a setting is for and what it may be."""

    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    """Whether it is never shown."""

    @property
    def bounds(self) -> str:
        """What it may be, in a few words; empty where anything goes."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:,} to {self.high:,}"


def _number(low: float, high: float, unit: str, text: str) -> Setting:
    return Setting(text=text, unit=unit, low=low, high=high)


LIMITS: Final[dict[str, Setting]] = {
    "key_bytes_max": _number(1, KEY_BYTES_CEILING, "bytes", "Longest key, in UTF-8."),
    "value_bytes_max": _number(0, BYTES_MAX, "bytes", "Largest value."),
    "metadata_bytes_max": _number(0, 2**20, "bytes", "Largest metadata, as compact JSON."),
    "title_chars_max": _number(1, 4096, "characters", "Longest title of a namespace."),
    "namespaces_per_account_max": _number(
        0, COUNT_MAX, "namespaces", "How many namespaces an account may have; `none`: any number."
    ),
    "expiration_ahead_s_min": _number(
        0, DAY_S, "seconds", "How far ahead an expiration must lie at least."
    ),
    "cache_ttl_s_min": _number(0, DAY_S, "seconds", "Smallest `cacheTtl` that a Worker may ask."),
    "rewrite_interval_ms": _number(
        0, 3_600_000, "milliseconds", "One write to the same key in this time; 0: any number."
    ),
    "rewrite_faces": Setting(
        text="Where the rule of one write to the same key is counted: some of "
        + ", ".join(f"`{face}`" for face in FACES)
        + ", separated by commas.",
    ),
    "bulk_write_pairs_max": _number(1, 10**6, "pairs", "Most pairs in a bulk write or delete."),
    "bulk_write_bytes_max": _number(1, 2**32, "bytes", "Largest body of a bulk write or delete."),
    "bulk_read_keys_max": _number(1, 10_000, "keys", "Most keys in a bulk read."),
    "bulk_read_bytes_max": _number(1, 2**32, "bytes", "Most bytes of values in a bulk read."),
    "list_keys_max": _number(1, 10_000, "keys", "Longest page of a listing."),
    "list_keys_min_rest": _number(
        1, 10_000, "keys", "Shortest page that may be asked for over REST."
    ),
    "list_values_bytes_max": _number(
        1, 2**32, "bytes", "Most bytes of values in one page of a listing with values."
    ),
    "delete_prefix_keys_max": _number(
        1, 10**6, "keys", "Most keys that one call deletes by prefix."
    ),
    "count_keys_max": _number(
        1, COUNT_MAX, "keys", "Most keys that one step of a count goes over."
    ),
    "discard_bytes_max": _number(
        0,
        2**36,
        "bytes",
        "How much of a body that is too large is read and thrown away, so that the client sees"
        " the answer; beyond it the connection is closed.",
    ),
}

PRESET_SETTING: Final = Setting(
    text="The limits to start from; each of them can be set by itself on top.",
    choices=tuple(PRESETS),
)

LOOPBACK_NOTE: Final = "Beyond loopback it takes TLS, or `allow_plaintext`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting. The defaults are what `atoll dev` runs with."""

    data: Path = field(
        default=Path(".atoll"),
        metadata={"setting": Setting(text="The data folder.")},
    )
    config: Path | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text=f"The file with settings; without it, `{FILE_NAME}` in the data folder if"
                " there is one. It cannot be set in a file."
            )
        },
    )

    # Where a server listens, and how it stops.
    host: str = field(
        default="127.0.0.1",
        metadata={
            "setting": Setting(
                text=f"The address to listen on, or unix:PATH for a unix socket. {LOOPBACK_NOTE}"
            )
        },
    )
    port: int = field(
        default=8780,
        metadata={"setting": _number(0, 65_535, "", "The port to listen on; 0 picks a free one.")},
    )
    allow_plaintext: bool = field(
        default=False,
        metadata={
            "setting": Setting(
                text="Listen beyond loopback without TLS: whoever is on the network in between"
                " can then read and change everything, credentials included."
            )
        },
    )
    tls_certificate: Path | None = field(
        default=None,
        metadata={"setting": Setting(text="The certificate chain to serve TLS with, in PEM.")},
    )
    tls_key: Path | None = field(
        default=None,
        metadata={"setting": Setting(text="The private key of `tls_certificate`, in PEM.")},
    )
    backlog: int = field(
        default=2048,
        metadata={
            "setting": _number(1, 65_535, "connections", "How many may wait to be accepted.")
        },
    )
    connections_max: int = field(
        default=4096,
        metadata={
            "setting": _number(
                1,
                10**6,
                "connections",
                "How many may be open at once; fewer if the system allows fewer files.",
            )
        },
    )
    keep_alive_s: int = field(
        default=75,
        metadata={
            "setting": _number(1, 3600, "seconds", "How long an idle connection is kept open.")
        },
    )
    stop_s: int = field(
        default=3,
        metadata={
            "setting": _number(
                0, 600, "seconds", "How long requests may take to finish when the server stops."
            )
        },
    )

    # What central does with its store.
    sealing_key: Path | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="The file with the key that values and metadata are sealed with; without it,"
                " `sealing.key` in the data folder, made at first start."
            )
        },
    )
    sweep_interval_s: float = field(
        default=1.0,
        metadata={
            "setting": _number(
                0.05, 3600, "seconds", "Pause between two sweeps of what expired or was deleted."
            )
        },
    )
    outcomes_kept_s: int = field(
        default=DAY_S,
        metadata={
            "setting": _number(
                60, 30 * DAY_S, "seconds", "How long a repeated `Idempotency-Key` is recognised."
            )
        },
    )
    feed_rows_max: int = field(
        default=1_000_000,
        metadata={
            "setting": _number(1000, COUNT_MAX, "changes", "How far back the feed's log reaches.")
        },
    )

    # What is counted, and what it costs.
    usage_interval_s: float = field(
        default=10.0,
        metadata={
            "setting": _number(
                0.05, 3600, "seconds", "How often what was counted is delivered and added up."
            )
        },
    )
    prices: Path | None = field(
        default=None,
        metadata={"setting": Setting(text="A file with price lists of your own, for statements.")},
    )

    # What a location reads through, and what it keeps.
    upstream: str | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="The URL of what a location reads through: central's, or another location's."
            )
        },
    )
    node_credential: str | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="What a location shows its upstream, from `atoll node create`; without it,"
                " what the file `node.credential` in the location's folder says.",
                secret=True,
            )
        },
    )
    processes: int = field(
        default=1,
        metadata={
            "setting": _number(
                1,
                64,
                "processes",
                "How many answer requests at a location. With more than one, its keeper is a"
                " process of its own.",
            )
        },
    )
    cache_bytes_max: int = field(
        default=2**30,
        metadata={
            "setting": _number(2**20, BYTES_MAX, "bytes", "How much a location's cache holds.")
        },
    )
    journal_bytes_max: int = field(
        default=2**28,
        metadata={
            "setting": _number(
                2**16,
                2**34,
                "bytes",
                "How much a location's journal holds; then writes are refused until central is"
                " back.",
            )
        },
    )
    bound_s: float = field(
        default=60.0,
        metadata={
            "setting": _number(
                0,
                DAY_S,
                "seconds",
                "How old an answer of a location may be, where neither the request nor the"
                " namespace says.",
            )
        },
    )

    credential_grace_s: int = field(
        default=DAY_S,
        metadata={
            "setting": _number(
                0,
                365 * DAY_S,
                "seconds",
                "How long a location that is cut off from central honours credentials that it"
                " knows.",
            )
        },
    )

    # What is logged, to standard error.
    log_level: str = field(
        default="info",
        metadata={
            "setting": Setting(
                text="The least that is logged.", choices=("debug", "info", "warning", "error")
            )
        },
    )
    log_format: str = field(
        default="auto",
        metadata={
            "setting": Setting(
                text="`json`: one object a line; `console`: for people; `auto`: `console` on a"
                " terminal, else `json`.",
                choices=("auto", "console", "json"),
            )
        },
    )
    access_log: bool = field(
        default=True, metadata={"setting": Setting(text="Log a line for every request.")}
    )

    # What commands talk to, and as whom.
    url: str | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="The server that commands talk to; without it, the one that runs on the data"
                " folder."
            )
        },
    )
    token: str | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="The API token of commands; without it, the data folder's, if the server is"
                " that folder's.",
                secret=True,
            )
        },
    )
    account_id: str | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="The account of commands; without it, the only one that the token reaches."
            )
        },
    )
    ca_certificate: Path | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="The authority that commands trust for TLS, in PEM; by default the usual ones."
            )
        },
    )
    workerd: Path | None = field(
        default=None,
        metadata={
            "setting": Setting(
                text="The program that runs Workers; without it, the one in a project's"
                " node_modules or on the PATH."
            )
        },
    )
    timeout_s: float = field(
        default=60.0,
        metadata={
            "setting": _number(0.1, 3600, "seconds", "How long a command waits for an answer.")
        },
    )

    limits: Limits = field(default_factory=Limits)
