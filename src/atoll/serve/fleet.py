"""The locations of `atoll dev`: processes beside central, and the ways between them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from atoll.clock import SystemClock
from atoll.config import FROM_FLAG, Loaded, in_words
from atoll.serve.links import Link, Links, control_path
from atoll.serve.location import keep_credential, site_of
from atoll.serve.server import bound, url_of
from atoll.serve.supervisor import Role, Supervisor

OWN_SETTINGS: Final = {"port", "host", "upstream", "processes"}
"""What a location of `atoll dev` is told by us, whatever central was told."""


@asynccontextmanager
async def fleet(
    loaded: Loaded, central: str, credentials: Mapping[str, str], rtt_ms: Mapping[str, float]
) -> AsyncGenerator[dict[str, str]]:
    """Run locations for as long as the block lasts; yield their URLs, once they answer.

    Args:
        loaded: The settings of `atoll dev`, which its locations share.
        central: Central's URL.
        credentials: What each location shows central, by name.
        rtt_ms: How long a round trip to central takes, by name.
    """
    config = loaded.config
    at = urlsplit(central)
    assert at.hostname is not None
    assert at.port is not None
    async with AsyncExitStack() as stack:
        links: dict[str, Link] = {}
        roles: list[Role] = []
        urls: dict[str, str] = {}
        for name, took_ms in rtt_ms.items():
            link = links[name] = Link(name, host=at.hostname, port=at.port, rtt_ms=took_ms)
            upstream = f"{at.scheme}://127.0.0.1:{await stack.enter_async_context(link.opened())}"
            listener = stack.enter_context(bound(replace(config, port=0)))
            listener.listen(config.backlog)
            urls[name] = url_of(config, listener)
            keep_credential(site_of(replace(config, upstream=upstream), name), credentials[name])
            arguments = _arguments(loaded, name, upstream)
            roles.append(Role(name=name, arguments=arguments, listener=listener, is_single=True))
        await stack.enter_async_context(Links(links).controlled(control_path(config.data)))
        await stack.enter_async_context(_supervised(roles, stop_s=config.stop_s))
        yield urls


@asynccontextmanager
async def _supervised(roles: list[Role], *, stop_s: float) -> AsyncGenerator[None]:
    supervisor = Supervisor(roles, clock=SystemClock(), stop_s=stop_s)
    started = asyncio.Event()
    running = asyncio.create_task(supervisor.run(started.set))
    try:
        await started.wait()
        yield
    finally:
        supervisor.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _arguments(loaded: Loaded, name: str, upstream: str) -> tuple[str, ...]:
    """Return the command line of a location, with what was set on ours."""
    given = [
        argument
        for setting, origin in loaded.origins.items()
        if origin == FROM_FLAG and setting not in {*OWN_SETTINGS, "data", "config"}
        for argument in ("--set", f"{setting}={in_words(loaded.value_of(setting))}")
    ]
    config = loaded.config
    file = () if config.config is None else ("--config", str(config.config))
    folder = ("--data", str(config.data))
    return ("location", name, "--upstream", upstream, *folder, *file, *given, "--part", "alone")
