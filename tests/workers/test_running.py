"""`atoll worker`: what it takes, what it starts, and what it leaves behind."""

import json
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from atoll.clock import SystemClock
from tests.clients.plain import Access, create, succeed
from tests.support.server import ATOLL, Server, environment
from tests.tidy.sources import ROOT
from tests.workers.running import Kv, KvError, as_module, running_worker, workerd

NEWER = "wrangler-newest"
COME_S_MAX = 60.0
RUN_S_MAX = 60.0

ECHO = """export default {
  async fetch(request, env) {
    console.log("asked for", new URL(request.url).pathname, {n: 1})
    return Response.json({text: TEXT, env, value: await env.KV.get("k")})
  }
}
"""


def ran(server: Server, folder: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run `atoll worker` with these arguments, to its end."""
    return subprocess.run(
        [ATOLL, "worker", *arguments],
        cwd=folder,
        env=environment(server.data),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=RUN_S_MAX,
        check=False,
        text=True,
    )


class Token(msgspec.Struct, frozen=True):
    """A token as it is listed."""

    name: str
    permission: str
    namespaces: tuple[str, ...] | None


def tokens(access: Access, name: str) -> list[Token]:
    """Return the account's tokens of a name."""
    listed = succeed(access, "GET", f"/accounts/{access.account_id}/tokens?per_page=1000").result
    return [token for token in msgspec.convert(listed, list[Token]) if token.name == name]


def test_a_token_of_its_own(server: Server, access: Access, tmp_path: Path) -> None:
    """It reaches the Worker's namespaces and no other, and ends with the Worker."""
    mine, other = create(access, "its own"), create(access, "not its own")
    other.put("k", b"secret")
    script = tmp_path / "scoped.mjs"
    script.write_text(
        "export default { async fetch(request, env) {\n"
        f"  const headers = {{'Atoll-Namespace': '{other.id}'}}\n"
        "  const forged = await fetch(env.URL + '/k', {headers})\n"
        "  return Response.json([forged.status, await env.KV.get('k')]) } }\n"
    )
    url = server.running.locations["LHR"]
    log = tmp_path / "log"

    with running_worker(
        server.data,
        tmp_path,
        script,
        f"--kv=KV={mine.id}",
        f"--env=URL={url}",
        "--workerd",
        workerd(NEWER),
        log=log,
    ) as worker:
        mine.put("k", b"value")
        status, body = worker.fetch()
        during = tokens(access, "worker scoped")
        code, _ = worker.stop()

    assert (status, json.loads(body)) == (200, [401, "value"])
    expected = Token(name="worker scoped", permission="write", namespaces=(mine.id,))
    assert (during, tokens(access, "worker scoped")) == ([expected], [])
    assert (code, log.read_text()) == (0, "")


def test_a_token_that_only_reads(server: Server, access: Access, tmp_path: Path) -> None:
    """What it may not do is an error that says so."""
    create(access, "looked at")

    with running_worker(
        server.data,
        tmp_path,
        as_module(tmp_path),
        "--kv=KV=looked at",
        "--read-only",
        "--workerd",
        workerd(NEWER),
    ) as worker:
        kv = Kv(worker=worker, binding="KV")
        assert kv.get("k") is None
        with pytest.raises(KvError, match=r"^KV PUT failed: 403 Authentication error"):
            kv.put("k", "value")


def test_it_is_started_again_when_a_file_changes(
    server: Server, access: Access, tmp_path: Path
) -> None:
    """Any of its files, on the same port; also after one that could not be run."""
    create(access, "changing").put("k", b"kept")
    (tmp_path / "lib").mkdir()
    part = tmp_path / "lib" / "part.mjs"
    part.write_text('export const TEXT = "one"\n')
    script = tmp_path / "main.mjs"
    script.write_text('import { TEXT } from "./lib/part.mjs"\n' + ECHO)
    log = tmp_path / "log"

    def says(text: str) -> None:
        clock = SystemClock()
        end_ms = clock.elapsed_ms() + COME_S_MAX * 1000
        while json.loads(worker.fetch("/x")[1])["text"] != text:
            assert clock.elapsed_ms() < end_ms, log.read_text()

    def complained(text: str) -> None:
        clock = SystemClock()
        end_ms = clock.elapsed_ms() + COME_S_MAX * 1000
        while text not in log.read_text():
            assert clock.elapsed_ms() < end_ms, log.read_text()

    with running_worker(
        server.data,
        tmp_path,
        script,
        "--kv=KV=changing",
        "--env=NAME=a=b",
        "--workerd",
        workerd(NEWER),
        log=log,
    ) as worker:
        says("one")
        part.write_text('export const TEXT = "the second"\n')
        says("the second")
        part.write_text("export const TEXT = }\n")
        complained("waiting for a change")
        part.write_text('export const TEXT = "three"\n')
        says("three")
        told = json.loads(worker.fetch("/path")[1])
        _, printed = worker.stop()

    assert told["value"] == "kept"
    assert told["env"]["NAME"] == "a=b"
    assert "asked for /path { n: 1 }\n" in printed
    assert "SyntaxError: Unexpected token '}'" in log.read_text()


@pytest.mark.parametrize("name", ["wrangler.toml", "wrangler.jsonc"])
def test_a_project_as_it_is(server: Server, access: Access, tmp_path: Path, name: str) -> None:
    """Its script, its date, its namespaces and its variables; what is not here is named."""
    space = create(access, f"of {name}")
    space.put("k", b"value")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "index.mjs").write_text(ECHO.replace("TEXT", '"project"'))
    (tmp_path / "wrangler.toml").write_text(
        f"""name = "shop"
main = "src/index.mjs"
compatibility_date = 2024-09-23
compatibility_flags = ["nodejs_compat"]
kv_namespaces = [{{ binding = "KV", id = "{space.id}", preview_id = "x" }}]
[vars]
GREETING = "hello"
LIMITS = {{ low = 1, high = [2, 3] }}
[[d1_databases]]
binding = "DB"
"""
    )
    (tmp_path / "wrangler.jsonc").write_text(
        f"""{{
  // As wrangler writes it.
  "name": "shop", "main": "src/index.mjs", /* with */ "compatibility_date": "2024-09-23",
  "compatibility_flags": ["nodejs_compat",],
  "kv_namespaces": [{{ "binding": "KV", "id": "{space.id}" }},], // comments
  "vars": {{ "GREETING": "hello", "LIMITS": {{ "low": 1, "high": [2, 3,] }}, }},
  "d1_databases": [{{ "binding": "DB" }}],
}}
"""
    )
    log = tmp_path / "log"

    with running_worker(
        server.data, tmp_path, "--config", name, "--workerd", workerd(NEWER), log=log
    ) as worker:
        told = json.loads(worker.fetch()[1])

    assert (told["text"], told["value"]) == ("project", "value")
    assert told["env"]["GREETING"] == "hello"
    assert told["env"]["LIMITS"] == {"low": 1, "high": [2, 3]}
    assert log.read_text() == "shop also binds d1_databases, which is not provided here\n"


def test_a_project_that_is_bundled(server: Server, access: Access, tmp_path: Path) -> None:
    """TypeScript with packages runs where the project has esbuild."""
    create(access, "bundled").put("k", b"value")
    modules = tmp_path / "node_modules"
    installed = workerd(NEWER)
    for parent in installed.parents:
        if parent.name == "node_modules":
            modules.symlink_to(parent)
    (tmp_path / "index.ts").write_text(
        'import { text } from "./part"\n'
        "interface Env { KV: { get(key: string): Promise<string | null> } }\n"
        "export default { async fetch(request: Request, env: Env): Promise<Response> {\n"
        '  return Response.json([text, await env.KV.get("k")]) } }\n'
    )
    (tmp_path / "part.ts").write_text('export const text: string = "typed"\n')

    with running_worker(server.data, tmp_path, "index.ts", "--kv=KV=bundled") as worker:
        assert json.loads(worker.fetch()[1]) == ["typed", "value"]


def test_the_configuration_for_oneself(server: Server, access: Access, tmp_path: Path) -> None:
    """What is printed is what workerd takes; it names the files and holds a token that lasts."""
    space = create(access, "by hand")
    as_module(tmp_path).rename(tmp_path / "by_hand.mjs")

    done = ran(
        server,
        tmp_path,
        *("config", "by_hand.mjs", "--kv", "KV=by hand", "--port", "0", "--env", 'Q="\\\n\x01é'),
        "--workerd",
        workerd(NEWER),
    )

    assert done.returncode == 0, done.stderr
    assert 'embed "by_hand.mjs"' in done.stdout
    (lasting,) = tokens(access, "worker by_hand")
    assert (lasting.permission, lasting.namespaces) == ("write", (space.id,))
    (tmp_path / "worker.capnp").write_text(done.stdout)
    compiled = subprocess.run(
        [workerd(NEWER), "compile", "worker.capnp"],
        cwd=tmp_path,
        capture_output=True,
        timeout=RUN_S_MAX,
        check=True,
    )
    assert b'"\\\n\x01\xc3\xa9' in compiled.stdout


@pytest.mark.parametrize("which", [0, 1])
def test_the_examples_in_the_documentation(
    server: Server, access: Access, tmp_path: Path, which: int
) -> None:
    """Each does what it is there to show."""
    page = (ROOT / "docs" / "workers.md").read_text()
    examples = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    create(access, f"example {which}").put("greeting", b"hello")
    (tmp_path / "hello.js").write_text(examples[which])

    with running_worker(
        server.data,
        tmp_path,
        "hello.js",
        f"--kv=KV=example {which}",
        "--workerd",
        workerd(NEWER),
    ) as worker:
        assert worker.fetch() == (200, b"hello")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "--workerd", "W"], 2, "name the script to run"),
        (["run", "none.js", "--workerd", "W"], 2, "cannot be read"),
        (["run", "s.js", "--workerd", "nowhere/workerd"], 2, "npm install workerd"),
        (["run", "s.js", "--kv", "KV=none", "--workerd", "W"], 3, "no namespace with the title"),
        (["run", "s.js", "--kv", "KV=" + "a" * 32, "--workerd", "W"], 2, "--kv KV=TITLE"),
        (["run", "s.js", "--kv", "KV", "--workerd", "W"], 2, "NAME=VALUE"),
        (["run", "s.js", "--location", "LAX", "--workerd", "W"], 2, "there are: LHR"),
        (["run", "s.ts", "--workerd", "W"], 2, "npm install esbuild"),
        (["run", "p.mjs", "--workerd", "W"], 2, "it imports the package 'left-pad'"),
        (["run", "--config", "bad.toml", "--workerd", "W"], 2, "cannot be read as a project"),
        (["run", "s.js", "--compatibility-date", "soon", "--workerd", "W"], 2, "YYYY-MM-DD"),
    ],
)
def test_what_cannot_be_run(  # noqa: D103 - the parameters say it
    server: Server, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "s.js").write_text("addEventListener('fetch', () => {})\n")
    (tmp_path / "s.ts").write_text("export default {}\n")
    (tmp_path / "p.mjs").write_text("import pad from 'left-pad'\nexport default {}\n")
    (tmp_path / "bad.toml").write_text("main = [\n")
    program = workerd(NEWER)

    done = ran(server, tmp_path, *(program if one == "W" else one for one in arguments))

    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in " ".join(done.stderr.split())
