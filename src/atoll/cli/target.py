"""Which server a command talks to, and as whom.

Flags and environment come first. What they leave open comes from the data folder, so that beside a
running `atoll dev` nothing needs to be given. A folder's credentials go to that folder's server
only: who names another server must name the token for it too.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from atoll.cli.folder import read_credentials, read_dev
from atoll.config import FROM_DEFAULT, Config, Loaded
from atoll.core.errors import ConfigError

ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server, and credentials for it."""

    url: str
    """Without a slash at the end."""
    url_from: str
    token: str | None
    token_from: str
    account_id: str | None


def target_of(loaded: Loaded) -> Target:
    """Find out where requests go.

    Raises:
        ConfigError: The URL is none, or a file in the data folder cannot be read.
    """
    config = loaded.config
    dev = read_dev(config.data)
    if dev is not None:
        url, url_from = dev.central, f"{config.data}/dev.json"
    else:
        url, url_from = _configured(config), FROM_DEFAULT
    own = config.url is None or config.url.rstrip("/") == url
    if config.url is not None:
        url, url_from = _checked(config.url, loaded.origins["url"]), loaded.origins["url"]
    if config.token is not None:
        return Target(
            url=url,
            url_from=url_from,
            token=config.token,
            token_from=loaded.origins["token"],
            account_id=config.account_id,
        )
    kept = (dev or read_credentials(config.data)) if own else None
    return Target(
        url=url,
        url_from=url_from,
        token=None if kept is None else kept.token,
        token_from=f"data folder {config.data}",
        account_id=config.account_id or (None if kept is None else kept.account_id),
    )


def _configured(config: Config) -> str:
    """Return where a server with the same settings would listen."""
    scheme = "http" if config.tls_certificate is None else "https"
    host = Config().host if config.host.startswith("unix:") else config.host
    return address(scheme, host, config.port or Config().port)


def address(scheme: str, host: str, port: int) -> str:
    """Write the URL at which a server that listens on `host` and `port` is reached from here."""
    host = ANY_ADDRESS.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _checked(url: str, origin: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(
            name="url", given=url, rule="give a URL such as http://127.0.0.1:8780", origin=origin
        )
    return url.rstrip("/")
