"""How the network behaves, and what it has carried."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Weather:
    """How the network behaves, in this run, at this moment."""

    loss: float = 0.0
    """How likely one leg of a call is lost."""
    spikes: float = 0.0
    """How likely a leg takes ten times as long, and more."""
    breaks: float = 0.0
    """How likely a message finds its session broken."""
    hangups: float = 0.0
    """How likely a server is told that its caller has gone."""


@dataclass(slots=True, kw_only=True)
class Traffic:
    """What was carried, and what became of it."""

    calls: int = 0
    lost: int = 0
    refused: int = 0
    late: int = 0
    """Requests that arrived after their sender had given up."""
    sessions: int = 0
    broken: int = 0
    flights_most: int = 0
    """How many reads of one key a node had on their way at a time."""
    faults: list[str] = field(default_factory=list[str])
    """Errors of servers that are none of ours: a bug there."""
