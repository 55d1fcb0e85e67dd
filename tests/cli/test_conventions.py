"""What all commands have in common: help, versions, errors, credentials, completion."""

import json
import re
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from atoll import __version__
from atoll.cli.app import run
from tests.cli.conftest import Atoll
from tests.tidy.sources import ROOT

COMMANDS = [
    "dev",
    "dev cut",
    "dev heal",
    "dev rtt",
    "env",
    "namespace create",
    "namespace list",
    "namespace rename",
    "namespace settings",
    "namespace delete",
    "key put",
    "key get",
    "key list",
    "key delete",
    "bulk put",
    "bulk get",
    "bulk delete",
    "export",
    "import",
    "watch",
    "account create",
    "account list",
    "token create",
    "token list",
    "token revoke",
    "init",
    "central",
    "location",
    "location list",
    "location forget",
    "status",
    "where",
    "journal list",
    "journal export",
    "journal discard",
    "node create",
    "node list",
    "node revoke",
    "usage",
    "quota list",
    "quota set",
    "quota remove",
    "quota preset",
    "backup",
    "restore",
    "seal rotate",
    "config",
    "simulate",
    "verify",
    "worker config",
    "worker run",
]


@pytest.fixture
def alone(tmp_path: Path) -> Atoll:
    """Run commands beside no server at all."""
    return Atoll(tmp_path / "none", tmp_path)


def test_the_version_is_the_package_s(alone: Atoll) -> None:
    """The same in the program, the package and what builds it."""
    project = (ROOT / "pyproject.toml").read_text()

    assert alone.ok("--version").text == f"atoll {__version__}"
    assert f'version = "{__version__}"' in project


def test_every_command_explains_itself_and_takes_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--help` names each command, and the page about the commands does, too."""
    page = (ROOT / "docs" / "cli.md").read_text()
    assert run(["--help"]) == 0
    top = capsys.readouterr().out

    for command in COMMANDS:
        assert command.split()[0] in top
        assert run([*command.split(), "--help"]) == 0
        assert "--json" in capsys.readouterr().out, command
        assert f"`atoll {command}" in page, command
    assert set(re.findall(r"^### `atoll ([a-z]+(?: [a-z]+)?)", page, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("args", [[], ["key"], ["seal"]])
def test_nothing_at_all_is_answered_with_help(
    capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    """Without a command, and with a group but no command of it."""
    assert run(args) == 2

    said = capsys.readouterr()
    assert said.out.count("Usage") + said.err.count("Usage") == 1


@pytest.mark.parametrize(
    "args", [["nonsense"], ["key", "nonsense"], ["key", "get"], ["--nonsense"], ["key", "get", "a"]]
)
def test_wrong_usage_is_told_in_the_form_asked_for(
    capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    """Exit code 2 either way, and nothing on standard output."""
    assert run(args) == 2
    plain = capsys.readouterr()
    assert run([*args, "--json"]) == 2
    as_json = capsys.readouterr()

    assert plain.out == as_json.out == ""
    assert plain.err.splitlines()[-1].startswith("atoll: ")
    assert "--help" in plain.err
    assert json.loads(as_json.err)["error"]["code"] == "usage"


def test_without_credentials_it_says_where_they_come_from(alone: Atoll) -> None:
    """Flag, environment and data folder."""
    refused = alone.run("namespace", "list", "--json")

    assert refused.code == 4
    assert refused.error["code"] == "unauthenticated"
    for way in ("--token", "ATOLL_TOKEN", "--data"):
        assert way in refused.error["message"]


def test_a_server_that_is_not_there_is_named(alone: Atoll) -> None:
    """With the address, where that came from, and what to do."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        refused = alone.run(
            "namespace", "list", "--json", settings={"url": url, "token": "atoll_x"}
        )

    assert refused.code == 5
    assert url in refused.error["message"]
    assert "environment ATOLL_URL" in refused.error["message"]
    assert "atoll dev" in refused.error["message"]


def test_a_server_that_breaks_off_or_says_nothing_is_told_apart(alone: Atoll) -> None:
    """From one that is not there: what was asked may have been done."""
    with answering(None) as url:
        settings = {"url": url, "token": "atoll_x", "account_id": "a", "timeout_s": "0.5"}
        silent = alone.run("namespace", "list", "--json", settings=settings)
    with answering(b"", head=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") as url:
        settings = {"url": url, "token": "atoll_x", "account_id": "a"}
        broken = alone.run("namespace", "list", "--json", settings=settings)

    assert silent.code == broken.code == 5
    assert "ATOLL_TIMEOUT_S" in silent.error["message"]
    assert "broke off" in broken.error["message"]


def test_a_server_that_is_something_else_is_noticed(alone: Atoll) -> None:
    """Whatever it answers, it is not taken for an answer."""
    for body in (b"<html>hello</html>", b"[]", b'"text"', b'{"result":'):
        with answering(body) as url:
            settings = {"url": url, "token": "atoll_x", "account_id": "a"}
            refused = alone.run("namespace", "list", "--json", settings=settings)
        assert refused.code in {1, 5}, refused
        assert refused.error["code"] == "not_atoll", body


@contextmanager
def answering(body: bytes | None, *, head: bytes | None = None) -> Generator[str]:
    """Answer one request with `body`, or with silence until the other side gives up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            wire, _ = listener.accept()
            with wire:
                wire.recv(65_536)
                if body is None:
                    wire.recv(65_536)
                    return
                length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                wire.sendall((head or length) + body)

        thread = Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_the_folder_s_token_goes_to_the_folder_s_server_only(atoll: Atoll) -> None:
    """Who names another server has to name the token for it; the own server's URL is no other."""
    url = str(atoll.ok("env", "--json").json["ATOLL_URL"])

    assert atoll.run("namespace", "list", settings={"url": "http://127.0.0.1:1"}).code == 4
    atoll.ok("namespace", "list", settings={"url": url + "/"})
    atoll.ok("namespace", "list", "--url", url)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8780", "ftp://x", "http://", "http://x:99999", "http://["]
)
def test_a_url_that_is_none_is_refused(alone: Atoll, url: str) -> None:
    """Before anything is sent."""
    refused = alone.run("namespace", "list", "--url", url, "--token", "x")

    assert refused.code == 2
    assert "command line" in refused.err


def test_a_setting_that_is_wrong_is_refused_by_every_command(alone: Atoll) -> None:
    """Also by one that has no use for it."""
    refused = alone.run("namespace", "list", "--json", settings={"prot": "1"})

    assert refused.code == 2
    assert "ATOLL_PORT" in refused.error["message"]


def test_a_broken_file_in_the_data_folder_is_named(alone: Atoll) -> None:
    """With what to do about it, and without a word of what stands in it."""
    alone.data.mkdir()
    (alone.data / "credentials.json").write_text('{"token": "atoll_secret"')

    refused = alone.run("namespace", "list")

    assert refused.code == 2
    assert "credentials.json" in refused.err
    assert "atoll_secret" not in refused.err


def test_config_shows_values_and_where_they_came_from(alone: Atoll) -> None:
    """For people and for programs; secrets are not shown."""
    alone.data.mkdir()
    (alone.data / "atoll.toml").write_text("[limits]\npreset = '2019'\n")
    given = {"port": "0", "token": "atoll_secret"}
    shown = alone.ok("config", "--set", "backlog=7", settings=given)
    rows = dict(line.split("\t", 1) for line in shown.text.splitlines())
    document = alone.ok("config", "--json").json

    assert rows["port"] == "0\tenvironment ATOLL_PORT"
    assert rows["backlog"] == "7\tcommand line"
    assert rows["limits.preset"] == f"2019\t{alone.data / 'atoll.toml'}"
    assert rows["limits.value_bytes_max"] == "2000000\tpreset 2019"
    assert rows["host"] == "127.0.0.1\tdefault"
    assert rows["token"] == "(set)\tenvironment ATOLL_TOKEN"  # noqa: S105 - not one
    assert {row["name"] for row in document} == set(rows)
    assert alone.run("config", "--set", "backlog").code == 2
    assert alone.run("config", "--set", "backlog=many").code == 2


def test_env_is_for_a_shell_to_evaluate(atoll: Atoll) -> None:
    """Evaluated, it brings commands to the same server without the data folder."""
    script = 'eval "$1" && env'
    said = atoll.ok("env").text
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", said], capture_output=True, text=True, check=True
    )
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    given = json.loads(atoll.ok("env", "--json").out)
    assert given.items() <= variables.items()
    assert variables["CLOUDFLARE_API_BASE_URL"].endswith("/client/v4")
    elsewhere = Atoll(atoll.folder / "none", atoll.folder)
    settings = {"url": variables["ATOLL_URL"], "token": variables["ATOLL_TOKEN"]}
    elsewhere.ok("namespace", "list", "--account", given["ATOLL_ACCOUNT_ID"], settings=settings)
    assert elsewhere.run("env").code == 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(alone: Atoll, shell: str) -> None:
    """The script for each shell is there, and what it asks is answered."""
    script = alone.ok("--show-completion", shell).text

    assert "_ATOLL_COMPLETE" in script
