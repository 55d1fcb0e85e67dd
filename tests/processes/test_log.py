"""What a server writes to its log, and what it must not."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import logging, sys
from atoll.config import load
from atoll.serve.log import configure_log, log

configure_log(load({"log_format": sys.argv[1], "log_level": sys.argv[2]}, {}).config)

def open_safe(combination):
    raise ValueError("the safe is stuck")

log.debug("looked", a=1)
log.info("opened", raw=b"x", b=2)
try:
    open_safe("hunter2")
except ValueError:
    log.exception("crashed", work="safe")
logging.getLogger("uvicorn.error").info("Started server process")
logging.getLogger("uvicorn.error").warning("Invalid HTTP request %s", "received")
"""


def logged(log_format: str, log_level: str = "info") -> str:
    """Return what a process with these settings logs."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, log_format, log_level],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def test_each_line_is_an_object_with_what_happened_in_front() -> None:
    """When, how bad and what; then the facts. Libraries speak in the same form."""
    entries = [json.loads(line) for line in logged("json").splitlines()]

    assert [entry["event"] for entry in entries] == ["opened", "crashed", "library_logged"]
    assert all(list(entry)[:3] == ["timestamp", "level", "event"] for entry in entries)
    assert entries[0]["b"] == 2
    assert entries[1]["exception"][0]["exc_value"] == "the safe is stuck"
    assert entries[2]["message"] == "Invalid HTTP request received"
    assert logged("auto").count("{") > 3, "into a pipe, auto is JSON"


def test_the_level_decides_what_is_logged() -> None:
    """What is below it is not."""
    assert "looked" in logged("json", "debug")
    assert len(logged("json", "error").splitlines()) == 1


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_values(log_format: str) -> None:
    """Where it happened, but not with what: that may be a secret or somebody's data."""
    text = logged(log_format)

    assert "open_safe" in text
    assert text.count("hunter2") <= text.count('open_safe("hunter2")'), text
