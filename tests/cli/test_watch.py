"""`atoll watch`: what it shows, where it goes on, and what it ends with."""

import json
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from tests.cli.conftest import Atoll
from tests.support.pipes import has_come

LINE_S_MAX = 60.0


@contextmanager
def watching(atoll: Atoll, *args: str) -> Generator[Callable[[], str]]:
    """Run `atoll watch` until Ctrl-C, and yield what returns its next line."""
    process = atoll.start("watch", *args)
    assert process.stdout is not None
    pending = b""

    def line() -> str:
        """Return the next line."""
        nonlocal pending
        assert process.stdout is not None
        while b"\n" not in pending:
            ready = has_come(process.stdout, within_s=LINE_S_MAX)
            piece = os.read(process.stdout.fileno(), 65_536) if ready else b""
            assert piece, process.poll()
            pending += piece
        first, _, pending = pending.partition(b"\n")
        return first.decode()

    try:
        yield line
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LINE_S_MAX)
        assert (process.returncode, said) == (130, b"")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_changes_are_shown_one_a_line(atoll: Atoll, namespace: str) -> None:
    """With what belongs to them; a key that a terminal would obey is quoted."""
    with watching(atoll, namespace, "--values") as line:
        assert line().startswith("present\t")
        atoll.ok(
            "key", "put", namespace, "a", "text", "--metadata", '{"m": 1}',
            "--expiration", "4102444800",
        )  # fmt: skip
        put = line().split("\t")
        atoll.ok("key", "put", namespace, "\x1b[1m", given=b"\xff")
        strange = line().split("\t")
        atoll.ok("key", "delete", namespace, "a")
        deleted = line().split("\t")

    assert put[:2] == ["put", "a"]
    assert put[3:] == ["2100-01-01 00:00:00Z", '{"m": 1}', "text"]
    assert strange[:2] == ["put", '"\\u001b[1m"']
    assert strange[3:] == ["", "", "base64:/w=="]
    assert deleted[:2] == ["delete", "a"]
    assert int(deleted[2]) > int(put[2])


def test_as_json_and_from_a_position(atoll: Atoll, namespace: str) -> None:
    """One object a line; what changed since comes first, then the present."""
    atoll.ok("key", "put", namespace, "x", "0")
    with watching(atoll, namespace, "--json", "--prefix", "a/") as line:
        present = json.loads(line())
        for key in ("a/1", "b", "a/2"):
            atoll.ok("key", "put", namespace, key, "v")
        told = [json.loads(line()) for _ in range(2)]
    with watching(atoll, namespace, "--json", "--since", present["position"]) as line:
        again = [json.loads(line()) for _ in range(4)]

    assert present == {"event": "present", "position": present["position"], "age_s": 0}
    assert [(event["event"], event["key"]) for event in told] == [("put", "a/1"), ("put", "a/2")]
    assert [event.get("key") for event in again] == ["a/1", "b", "a/2", None]
    assert again[0] == told[0]
    assert again[-1]["event"] == "present"
    assert again[-1]["position"] >= told[-1]["position"]


@pytest.mark.parametrize(
    ("args", "code", "name"),
    [
        (["--since", "0000000000000001-5"], 3, "position_too_old"),
        (["--since", "yesterday"], 1, "parameter_invalid"),
        (["--prefix", "x" * 600], 1, "key_too_long"),
        (["--token", "atoll_0000000000000000_x"], 4, "unauthenticated"),
    ],
)
def test_what_is_refused_ends_it(
    atoll: Atoll,
    namespace: str,
    namespace_of: Callable[[str], str],
    *,
    args: list[str],
    code: int,
    name: str,
) -> None:
    """At once, with a code for scripts."""
    refused = atoll.run("watch", namespace_of(namespace), "--json", *args)

    assert (refused.code, refused.error["code"]) == (code, name)
    if name == "position_too_old":
        assert "and follow the changes from there" in refused.error["message"]


def test_a_namespace_that_goes_ends_it(atoll: Atoll, namespace: str) -> None:
    """And so does a token that is revoked."""
    made = atoll.ok("token", "create", "watcher", "--json").json
    by_token = atoll.start("watch", namespace, "--json", "--token", made["value"])
    by_name = atoll.start("watch", namespace, "--json")
    for process in (by_token, by_name):
        assert process.stdout is not None
        assert b"present" in process.stdout.readline()
    atoll.ok("token", "revoke", made["id"])
    _, said_token = by_token.communicate(timeout=LINE_S_MAX)
    atoll.ok("namespace", "delete", namespace, "--yes")
    _, said_name = by_name.communicate(timeout=LINE_S_MAX)

    assert (by_token.returncode, json.loads(said_token)["error"]["code"]) == (4, "unauthenticated")
    assert (by_name.returncode, json.loads(said_name)["error"]["code"]) == (
        3,
        "namespace_not_found",
    )
