"""What one run of the bench is to do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of a run that the parts look at."""

    rounds: int
    quick: bool
    """Smaller and shorter: to see that it runs, not to quote."""
    servers: frozenset[str] = frozenset()
    """Of the puts, only these servers; empty for all."""

    def wants_server(self, name: str) -> bool:
        """Return whether a server takes part."""
        return not self.servers or name in self.servers

    def say(self, sentence: str) -> None:
        """Tell whoever waits."""
        print(f"  {sentence}", flush=True)
