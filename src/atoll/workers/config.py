"""workerd's configuration of one Worker whose namespaces are Atoll's."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atoll.workers.script import Form, Module, Script, read_file

SOCKET: Final = "http"
"""What the configuration calls the socket on which the Worker answers."""

NAMESPACE_HEADER: Final = "Atoll-Namespace"

INTERNET: Final = (
    '(name = "internet", network = (allow = ["public", "private"],'
    " tlsOptions = (trustBrowserCas = true)))"
)

LOGGED: Final = "  structuredLogging = true,\n"

_SPECIAL: Final = re.compile(r'["\\\x00-\x1f\x7f]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the namespaces are, and what is shown there."""

    address: str
    """As workerd has it: `host:port` or `unix:/path`."""
    token: str = ""
    tls_host: str | None = None
    """Whose certificate is expected; `None` for no TLS."""
    authority: str | None = None
    """The certificate that is trusted, in PEM; `None` for those that browsers trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A Worker that is ready to be run."""

    script: Script
    compatibility_date: str
    compatibility_flags: tuple[str, ...]
    kv: Mapping[str, str]
    """The id of the namespace that each binding is."""
    variables: Mapping[str, object]
    listen: str
    """The address on which it answers."""


def in_full(module: Module) -> str:
    """Write a file into the configuration."""
    content = read_file(module.path)
    if module.kind.is_binary:
        return f'0x"{content.hex()}"'
    return _text(content.decode("utf-8", "replace"))


def embedded(path: Path) -> str:
    """Name a file that workerd is to read, as seen from where the configuration is."""
    return f"embed {_text(path.as_posix())}"


def render(
    worker: Worker, store: Store, content: Callable[[Module], str], *, structured: bool = False
) -> str:
    """Write the configuration.

    Args:
        worker: The Worker.
        store: Where its namespaces are.
        content: Writes what a file holds, or where it is.
        structured: Whether the log is for programs.
    """
    services = [
        _service(worker, content),
        # The Worker may fetch from anywhere, this machine included.
        INTERNET,
        *(_namespace(namespace, store) for namespace in dict.fromkeys(worker.kv.values())),
    ]
    listed = ",\n    ".join(services)
    return (
        'using Workerd = import "/workerd/workerd.capnp";\n\n'
        "const config :Workerd.Config = (\n"
        f"{LOGGED if structured else ''}"
        f"  services = [\n    {listed},\n  ],\n"
        f'  sockets = [(name = "{SOCKET}", address = {_text(worker.listen)}, http = (),'
        ' service = "main")],\n'
        ");\n"
    )


def _service(worker: Worker, content: Callable[[Module], str]) -> str:
    main, *_ = modules = worker.script.modules
    if worker.script.form is Form.SERVICE_WORKER:
        code = f"serviceWorkerScript = {content(main)}"
    else:
        listed = ",\n        ".join(
            f"(name = {_text(module.name)}, {module.kind} = {content(module)})"
            for module in modules
        )
        code = f"modules = [\n        {listed},\n      ]"
    bindings = [
        f"(name = {_text(name)}, kvNamespace = {_text(_service_name(namespace))})"
        for name, namespace in worker.kv.items()
    ]
    bindings += [
        f"(name = {_text(name)}, text = {_text(value)})"
        if isinstance(value, str)
        else f"(name = {_text(name)}, json = {_text(json.dumps(value, default=str))})"
        for name, value in worker.variables.items()
    ]
    listed = "".join(f"\n        {one}," for one in bindings)
    flags = ", ".join(_text(flag) for flag in worker.compatibility_flags)
    return (
        '(name = "main", worker = (\n'
        f"      {code},\n"
        f"      compatibilityDate = {_text(worker.compatibility_date)},\n"
        f"      compatibilityFlags = [{flags}],\n"
        f"      bindings = [{listed}\n      ],\n    ))"
    )


def _service_name(namespace: str) -> str:
    return f"kv-{namespace}"


def _namespace(namespace: str, store: Store) -> str:
    """Write the service behind one namespace: one address, told apart by a header."""
    headers = ",\n        ".join(
        (
            f'(name = "{NAMESPACE_HEADER}", value = {_text(namespace)})',
            f'(name = "Authorization", value = {_text(f"Bearer {store.token}")})',
            '(name = "CF-KV-FLPROD-405")',  # Without a value: not sent. It repeats the address.
        )
    )
    options = f"(injectRequestHeaders = [\n        {headers},\n      ])"
    if store.tls_host is None:
        way = f"http = {options}"
    else:
        trusted = (
            "trustBrowserCas = true"
            if store.authority is None
            else f"trustedCertificates = [{_text(store.authority)}]"
        )
        way = (
            f"https = (options = {options},\n      tlsOptions = ({trusted}),"
            f" certificateHost = {_text(store.tls_host)})"
        )
    return (
        f"(name = {_text(_service_name(namespace))}, external = "
        f"(address = {_text(store.address)}, {way}))"
    )


def _text(text: str) -> str:
    """Write a text as the configuration's language has it."""
    return f'"{_SPECIAL.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    return named.get(char) or f"\\x{ord(char):02x}"
