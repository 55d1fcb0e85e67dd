"""Calls Cloudflare's SDK 4 as it is told on standard input: one call a line, one outcome a line.

It runs in an environment of its own, which has that SDK and nothing of ours. A call names a method
of `client.kv.namespaces` and its arguments; `values.get` is answered with the bytes in base64.
"""

import base64
import json
import sys
from typing import Any

import cloudflare


def plain(result: Any) -> Any:  # noqa: ANN401 - whatever a method of the SDK returns
    """Turn a result into what JSON can carry."""
    if hasattr(result, "iter_pages"):
        return [plain(item) for item in result]
    if isinstance(result, cloudflare.BaseModel):
        return result.to_dict()
    if hasattr(result, "read"):
        return base64.b64encode(result.read()).decode()
    return result


def outcome(client: cloudflare.Cloudflare, call: dict[str, Any]) -> dict[str, Any]:
    """Make one call, and say what came of it."""
    method: Any = client.kv.namespaces
    for name in call["method"].split("."):
        method = getattr(method, name)
    named = {name: value for name, value in call["named"].items() if value is not None}
    try:
        return {"result": plain(method(*call["arguments"], **named))}
    except cloudflare.APIStatusError as error:
        codes = [fault.code for fault in error.errors]
        return {"error": type(error).__name__, "status": error.status_code, "codes": codes}
    except Exception as error:  # noqa: BLE001 - what the SDK refuses by itself is an outcome too
        return {"error": type(error).__name__}


def main() -> None:
    """Answer calls until there are no more."""
    url, token = sys.argv[1:]
    client = cloudflare.Cloudflare(base_url=url, api_token=token)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(outcome(client, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
