"""What is found out about a Worker before it runs: its form, its files, its project, its log."""

import json
from pathlib import Path

import pytest

from atoll.core.errors import ConfigError
from atoll.workers.config import Store, Worker, in_full, render
from atoll.workers.logs import readable
from atoll.workers.project import read_project
from atoll.workers.runtime import find
from atoll.workers.script import (
    BundlingNeededError,
    Form,
    Kind,
    Module,
    Script,
    form_of,
    read_script,
)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("export default { fetch() {} }", Form.MODULES),
        ("const x = 1\nexport { x as default }", Form.MODULES),
        ("var a={};export{a as default};", Form.MODULES),
        ("export class Room {}", Form.MODULES),
        ('export * from "./other.js"', Form.MODULES),
        ('addEventListener("fetch", go)', Form.SERVICE_WORKER),
        ("// export default {}\naddEventListener('fetch', go)", Form.SERVICE_WORKER),
        ("/*\nexport default {}\n*/\naddEventListener('fetch', go)", Form.SERVICE_WORKER),
        ("const exported = 1; addEventListener('fetch', go)", Form.SERVICE_WORKER),
        ("respond('to export default prices')", Form.SERVICE_WORKER),
    ],
)
def test_the_form_of_a_script(text: str, form: Form) -> None:
    """What exports something is a module."""
    assert form_of(Path("worker.js"), text) is form


def test_a_file_may_say_its_form_by_its_name() -> None:
    """As Node has it."""
    assert form_of(Path("worker.mjs"), "1") is Form.MODULES


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files, and return the first."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / next(iter(files))


def test_the_files_of_a_script(tmp_path: Path) -> None:
    """Those that are imported, from each other too, by the names that they have for each other."""
    main = write(
        tmp_path,
        {
            "src/index.js": 'import a from "./a.js"\nimport { b } from "../lib/b.mjs"\n'
            'import text from "./page.html"; import data from "./d.json"\n'
            'import { x } from "node:buffer"\nimport { y } from "cloudflare:workers"\n'
            "const later = () => import('./late.js')\n// import z from './none.js'\n"
            "export default { a, b }",
            "src/a.js": 'import b from "../lib/b.mjs"; export default b',
            "src/late.js": 'export { default } from "./index.js"',
            "src/page.html": "<p>",
            "src/d.json": "{}",
            "src/other.js": "",
            "lib/b.mjs": "export const b = 1",
        },
    )

    script = read_script(main)

    assert script.form is Form.MODULES
    assert script.modules[0].name == "src/index.js"
    assert {module.name: module.kind for module in script.modules} == {
        "src/index.js": Kind.ES_MODULE,
        "src/a.js": Kind.ES_MODULE,
        "src/late.js": Kind.ES_MODULE,
        "src/page.html": Kind.TEXT,
        "src/d.json": Kind.JSON,
        "lib/b.mjs": Kind.ES_MODULE,
    }
    assert set(script.sources) == {module.path for module in script.modules}


@pytest.mark.parametrize(
    "files",
    [
        {"index.ts": "export default {}"},
        {"index.mjs": 'import pad from "left-pad"'},
        {"index.mjs": 'import a from "./a"', "a.js": ""},
        {"index.mjs": 'import a from "./a.ts"', "a.ts": ""},
        {"index.mjs": 'import a from "./a.js"', "a.ts": ""},
    ],
)
def test_what_has_to_be_bundled(tmp_path: Path, files: dict[str, str]) -> None:
    """TypeScript, packages, and names that only a bundler completes."""
    with pytest.raises(BundlingNeededError):
        read_script(write(tmp_path, files))


def test_a_form_that_is_given_counts(tmp_path: Path) -> None:
    """A script of the older form is one file, whatever stands in it."""
    main = write(tmp_path, {"w.js": 'import pad from "left-pad"\nexport default 1'})

    script = read_script(main, Form.SERVICE_WORKER)

    assert (script.form, script.sources) == (Form.SERVICE_WORKER, (main,))


def test_comments_in_json(tmp_path: Path) -> None:
    """Go, and what looks like them in a text stays."""
    path = tmp_path / "wrangler.jsonc"
    path.write_text(
        '{ // one\n "name": "a // b /* c */ ,]", /* two\n */ "main": "x.js",\n'
        ' "vars": {"URL": "https://x/,}", "Q": "\\"//",}, // three\n'
        ' "compatibility_flags": ["a", /* four */ ], }'
    )

    project = read_project(path)

    assert project.name == "a // b /* c */ ,]"
    assert project.variables == {"URL": "https://x/,}", "Q": '"//'}
    assert project.compatibility_flags == ("a",)
    assert project.main == tmp_path / "x.js"


def test_a_project_in_toml(tmp_path: Path) -> None:
    """Dates may be dates, and a binding need not say which namespace it is."""
    path = tmp_path / "wrangler.toml"
    path.write_text(
        'name = "t"\ncompatibility_date = 2024-01-02\nunknown = 1\n'
        '[[kv_namespaces]]\nbinding = "A"\nid = "i"\n[[kv_namespaces]]\nbinding = "B"\n'
        '[[r2_buckets]]\nbinding = "R"\n'
    )

    project = read_project(path)

    assert project.compatibility_date == "2024-01-02"
    assert project.kv == {"A": "i", "B": None}
    assert (project.main, project.left_out) == (None, ("r2_buckets",))


@pytest.mark.parametrize("text", ["{", "[]", '{"main": 1}', '{"kv_namespaces": [{}]}', "\xff"])
def test_a_project_that_is_none(tmp_path: Path, text: str) -> None:
    """Is an error that names the file."""
    path = tmp_path / "wrangler.json"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(ConfigError, match=r"wrangler\.json.*cannot be read as a project"):
        read_project(path)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ({"level": "log", "message": "said"}, ("said", False)),
        (
            {
                "level": "info",
                "source": "x.c++:1",
                "message": 'console.log(); message() = ["a b", {"n": 1}, 2]',
            },
            ('a b {"n": 1} 2', False),
        ),
        (
            {"level": "info", "source": "x", "message": "console.warn(); message() = [1n]"},
            ("[1n]", False),
        ),
        (
            {
                "level": "info",
                "source": "x",
                "message": "uncaught exception; source = Uncaught; stack = Error: boom\n at main:1",
            },
            ("uncaught Error: boom\n at main:1", True),
        ),
        (
            {"level": "error", "source": "x", "message": "cannot listen\nstack: a@1 b@2"},
            ("cannot listen", True),
        ),
        (
            {"level": "error", "source": "x", "message": "failed: remote.jsg.Error: boom"},
            (None, False),
        ),
        ({"level": "info", "source": "x", "message": "of no interest"}, (None, False)),
    ],
)
def test_a_line_of_the_log(line: dict[str, str], shown: tuple[str | None, bool]) -> None:
    """The Worker's words as they are; of the rest, what went wrong."""
    assert readable(json.dumps(line).encode() + b"\n") == shown


def test_a_line_that_is_not_structured() -> None:
    """Is shown as it is."""
    assert readable(b"plain \xff words\n") == ("plain \ufffd words", False)


def test_what_a_configuration_says(tmp_path: Path) -> None:
    """Of two bindings of one namespace there is one service; bytes are bytes."""
    (tmp_path / "w.js").write_text('x = "\\n"')
    (tmp_path / "d.bin").write_bytes(b"\x00\xff")
    worker = Worker(
        script=Script(
            form=Form.MODULES,
            modules=(
                Module(name="w.js", kind=Kind.ES_MODULE, path=tmp_path / "w.js"),
                Module(name="d.bin", kind=Kind.DATA, path=tmp_path / "d.bin"),
            ),
            sources=(),
        ),
        compatibility_date="2026-01-01",
        compatibility_flags=("a", "b"),
        kv={"A": "1" * 32, "B": "2" * 32, "C": "1" * 32},
        variables={"T": 'q"', "J": {"a": [1]}},
        listen="127.0.0.1:1",
    )

    text = render(worker, Store(address="h:1", token="t"), in_full)  # noqa: S106 - no secret

    assert text.count("external = ") == text.count('value = "Bearer t"') == 2
    assert text.count(f'kvNamespace = "kv-{"1" * 32}"') == 2
    assert 'esModule = "x = \\"\\\\n\\""' in text
    assert 'data = 0x"00ff"' in text
    assert '(name = "T", text = "q\\"")' in text
    assert '(name = "J", json = "{\\"a\\": [1]}")' in text
    assert 'compatibilityFlags = ["a", "b"]' in text


def test_the_program_of_the_project_comes_first(tmp_path: Path) -> None:
    """The nearest node_modules above the script, as Node looks."""
    program = tmp_path / "node_modules" / ".bin" / "workerd"
    program.parent.mkdir(parents=True)
    program.touch()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)

    assert find((inner,), None) == program
