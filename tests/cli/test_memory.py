"""Memory of imports and exports, which must not grow with the file."""

import base64
import json
import os
from pathlib import Path

from tests.cli.conftest import Atoll

SMALL_BYTES = 20 * 10**6
LARGE_BYTES = 200 * 10**6
LARGE_VALUE_BYTES = 5 * 10**6
GROWTH_BYTES_MAX = 40 * 10**6


def write_pairs(path: Path, size_bytes: int) -> int:
    """Write pairs of 300 bytes, and now and then one of megabytes; return how many they are."""
    value = "x" * 256
    large = base64.b64encode(os.urandom(LARGE_VALUE_BYTES)).decode()
    count = 0
    with path.open("w") as file:
        while file.tell() < size_bytes:
            for _ in range(20_000):
                file.write(f'{{"key":"k{count:09}","value":"{value}"}}\n')
                count += 1
            file.write(json.dumps({"key": f"k{count:09}", "value": large, "base64": True}) + "\n")
            count += 1
    return count


def test_memory_stays_flat_whatever_the_size(atoll: Atoll, namespace: str) -> None:
    """Ten times the file takes hardly more memory, on the way in and on the way out."""
    peaks: dict[str, int] = {}
    for name, size_bytes in (("small", SMALL_BYTES), ("large", LARGE_BYTES)):
        count = write_pairs(atoll.folder / f"{name}.ndjson", size_bytes)
        peaks[f"import {name}"] = atoll.peak_bytes("import", namespace, f"{name}.ndjson")
        peaks[f"export {name}"] = atoll.peak_bytes("export", namespace, f"{name}.out")
        with (atoll.folder / f"{name}.out").open("rb") as file:
            assert sum(1 for _ in file) == count

    for way in ("import", "export"):
        growth = peaks[f"{way} large"] - peaks[f"{way} small"]
        assert growth <= GROWTH_BYTES_MAX, peaks
