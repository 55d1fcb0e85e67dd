"""What one run of the bench is to do."""

from dataclasses import dataclass

from bench import machine
from bench.baseline import Baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of a run that the parts look at."""

    rounds: int
    quick: bool
    """Smaller and shorter: to see that it runs, not to quote."""
    servers: frozenset[str] = frozenset()
    """Where several take part, only these; empty for all."""
    against: Baseline | None = None
    """The state of Atoll that this one is compared with, instead of with what others made."""

    patience_seconds: float = 0.0
    """How long a turn may wait for the machine to be calm."""

    def await_turn(self) -> None:
        """Wait a while for others to be done with the machine."""
        machine.wait_for_calm(self.patience_seconds)

    def wants_server(self, name: str) -> bool:
        """Return whether a server takes part."""
        if self.against is not None and not self.servers:
            return name.startswith("atoll")
        return not self.servers or name in self.servers

    def say(self, sentence: str) -> None:
        """Tell whoever waits."""
        print(f"  {sentence}", flush=True)
