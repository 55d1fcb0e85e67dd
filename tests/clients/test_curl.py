"""curl as people have typed it since 2019: `-d` announces a form and means JSON, or a value."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.clients.plain import Access, Envelope, Namespace, titles

EVERY_BYTE = bytes(range(256))
VALUE_BYTES_MAX = 25 * 2**20
RUN_S_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What curl printed: the body, and the status that it was asked for."""

    status: int
    body: bytes

    @property
    def envelope(self) -> Envelope:
        """The body, which is an envelope."""
        return msgspec.json.decode(self.body, type=Envelope)


Curl = Callable[..., Ran]


@pytest.fixture
def curl(tmp_path: Path) -> Curl:
    """Return curl without the user's settings, in an empty folder."""
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed")

    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        command = [found, "--silent", "--show-error", "--write-out", "\n%{http_code}", *arguments]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"HOME": str(tmp_path)},
            input=stdin,
            capture_output=True,
            timeout=RUN_S_MAX,
            check=True,
        )
        body, _, status = done.stdout.rpartition(b"\n")
        return Ran(status=int(status), body=body)

    return run


def auth(access: Access) -> tuple[str, ...]:
    """Return the headers of the older form."""
    return "-H", f"X-Auth-Key: {access.key}", "-H", f"X-Auth-Email: {access.email}"


def url(namespace: Namespace, path: str) -> str:
    """Return the URL of something in a namespace."""
    return f"{namespace.access.api}{namespace.path}/{path}"


def test_a_bulk_write(curl: Curl, namespace: Namespace) -> None:
    """The announcement's own example, with the content type of a form."""
    pairs = '[{"key": "built_by", "value": "kyle, alex"}, {"key": "reviewed_by", "value": "zoë"}]'

    ran = curl(url(namespace, "bulk"), "-X", "PUT", *auth(namespace.access), "-d", pairs)

    assert ran.status == 200
    assert ran.envelope.success
    assert namespace.value("built_by") == b"kyle, alex"
    assert namespace.value("reviewed_by") == "zoë".encode()


def test_a_bulk_delete(curl: Curl, namespace: Namespace) -> None:
    """A DELETE with a body, and the content type of a form."""
    namespace.bulk([{"key": key, "value": "v"} for key in ("a", "b", "stays")])

    ran = curl(url(namespace, "bulk"), "-X", "DELETE", *auth(namespace.access), "-d", '["a", "b"]')

    assert ran.status == 200
    assert namespace.names() == ["stays"]


@pytest.mark.parametrize(
    "value", ["plain", "a=1&b=2", "a+b%20c%zz", '{"result": [1, 2]}', "zoë", "--boundary--"]
)
def test_a_value_is_the_bytes_that_were_typed(curl: Curl, namespace: Namespace, value: str) -> None:
    """Nothing decodes the form that curl announces."""
    target = url(namespace, "values/first-key?expiration_ttl=3600")

    ran = curl(target, "-X", "PUT", *auth(namespace.access), "-d", value)

    assert ran.status == 200
    assert namespace.value("first-key") == value.encode()
    assert namespace.expiration("first-key") is not None


def test_an_empty_value(curl: Curl, namespace: Namespace) -> None:
    """No bytes are a value too."""
    ran = curl(url(namespace, "values/k"), "-X", "PUT", *auth(namespace.access), "-d", "")

    assert ran.status == 200
    assert namespace.value("k") == b""


def test_a_token_in_the_header(curl: Curl, namespace: Namespace) -> None:
    """The newer form of credentials, and a key with escapes, read back with curl itself."""
    bearer = ("-H", f"Authorization: Bearer {namespace.access.token}")
    target = url(namespace, "values/a%2Fb%20c")

    put = curl(target, "-X", "PUT", *bearer, "-d", "v")
    got = curl(target, *bearer)

    assert put.status == 200
    assert got.body == b"v"
    assert namespace.names() == ["a/b c"]


@pytest.mark.parametrize(
    "send",
    [
        ("-X", "PUT", "--data-binary", "@value"),
        ("-T", "value"),
        ("-X", "PUT", "-F", "value=@value", "-F", "metadata={}"),
    ],
    ids=["--data-binary", "-T", "-F"],
)
@pytest.mark.parametrize(
    "value",
    [EVERY_BYTE, EVERY_BYTE * (VALUE_BYTES_MAX // 256)],
    ids=["every byte", "25 MiB"],
)
def test_a_file_arrives_unharmed(
    curl: Curl, namespace: Namespace, tmp_path: Path, send: tuple[str, ...], value: bytes
) -> None:
    """For a large one curl asks first whether it may send it, and waits for the answer."""
    (tmp_path / "value").write_bytes(value)
    target = url(namespace, "values/k")

    ran = curl(target, *send, *auth(namespace.access), "--expect100-timeout", "30")
    curl(target, *auth(namespace.access), "-o", "back")

    assert ran.status == 200, ran
    assert namespace.value("k") == value
    assert (tmp_path / "back").read_bytes() == value


def test_a_stream_of_unknown_length(curl: Curl, namespace: Namespace) -> None:
    """From a pipe curl sends chunks."""
    value = EVERY_BYTE * 10_000

    ran = curl(url(namespace, "values/k"), "-T", "-", *auth(namespace.access), stdin=value)

    assert ran.status == 200
    assert namespace.value("k") == value


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_too_large_a_file_is_refused_so_that_it_is_seen(
    curl: Curl, namespace: Namespace, *, expect: str, chunked: bool
) -> None:
    """Whether or not curl asks first and announces a length, it gets to see the envelope."""
    length = ("-H", "Transfer-Encoding: chunked") if chunked else ()

    ran = curl(
        url(namespace, "values/k"),
        *("-X", "PUT", "--data-binary", "@-", "-H", expect),
        *length,
        *auth(namespace.access),
        stdin=bytes(VALUE_BYTES_MAX + 1),
    )

    assert ran.status == 413
    assert ran.envelope.errors[0].code == 10024
    assert namespace.names() == []


@pytest.mark.parametrize("sign", ["=", "=@", "=<"], ids=["text", "file", "text of a file"])
def test_a_form_with_metadata(curl: Curl, namespace: Namespace, tmp_path: Path, sign: str) -> None:
    """As the documentation of Workers KV shows it; the metadata may be a file too."""
    metadata = {"someMetadataKey": "someMetadataValue", "ü": [1]}
    text = json.dumps(metadata)
    (tmp_path / "file").write_text(text)

    ran = curl(
        url(namespace, "values/k"),
        *("-X", "PUT", *auth(namespace.access)),
        *("-F", "value=some text", "-F", f"metadata{sign}{text if sign == '=' else 'file'}"),
    )

    assert ran.status == 200
    assert namespace.value("k") == b"some text"
    assert namespace.metadata("k") == metadata


def test_a_listing_of_a_prefix(curl: Curl, namespace: Namespace) -> None:
    """Curl encodes a query as a form, where a space is a plus sign."""
    namespace.bulk([{"key": key, "value": "v"} for key in ("a b+c&1", "a b+c&2", "a", "z")])

    ran = curl("-G", url(namespace, "keys"), *auth(namespace.access), *query(prefix="a b+c&"))

    assert ran.envelope.result == [{"name": "a b+c&1"}, {"name": "a b+c&2"}]


def query(**fields: str) -> tuple[str, ...]:
    """Return the arguments that make curl encode a query."""
    pairs = (("--data-urlencode", f"{name}={value}") for name, value in fields.items())
    return tuple(argument for pair in pairs for argument in pair)


def test_delete(curl: Curl, namespace: Namespace) -> None:
    """A key is gone, and deleting it again is no fault."""
    namespace.put("k", b"v")

    for _ in range(2):
        ran = curl(url(namespace, "values/k"), "-X", "DELETE", *auth(namespace.access))
        assert ran.status == 200
        assert ran.envelope.success

    assert namespace.names() == []


@pytest.mark.parametrize("flags", [(), ("--path-as-is",)], ids=["folded", "as typed"])
@pytest.mark.parametrize("dots", [".", "..", "%2e", "%2E%2e"])
def test_dots_delete_nothing(
    curl: Curl, namespace: Namespace, dots: str, flags: tuple[str, ...]
) -> None:
    """Curl folds dots away before it sends them, or does not if told; both are refused."""
    namespace.put("k", b"v")
    before = titles(namespace.access)
    target = url(namespace, f"values/{dots}")

    ran = curl(target, *flags, "-X", "DELETE", *auth(namespace.access))

    assert ran.status in {400, 404}
    assert not ran.envelope.success
    assert titles(namespace.access) == before
    assert namespace.names() == ["k"]


def test_credentials_that_are_missing_or_wrong(curl: Curl, namespace: Namespace) -> None:
    """Both are refused in the envelope."""
    none = curl(url(namespace, "keys"))
    wrong = curl(url(namespace, "keys"), "-H", "X-Auth-Key: no", "-H", "X-Auth-Email: a@example")

    assert none.status == wrong.status == 401
    assert not none.envelope.success
    assert not wrong.envelope.success
