"""Cloudflare's SDK 4, which writes keys into paths as they are and values as JSON."""

import json
from urllib.parse import quote

import msgspec
import pytest

from tests.clients.plain import Namespace, Space, spaces
from tests.clients.sdk import connect_to, place
from tests.clients.sdk4 import OlderSdk
from tests.clients.wrangler import Wrangler

FORM = {"Content-Type": "multipart/form-data"}


def test_update_stores_the_text_that_was_sent(older_sdk: OlderSdk, namespace: Namespace) -> None:
    """This SDK sends JSON where a form was meant, and the whole of it is the value.

    Workers KV does the same, and programs have learnt to read it back so.
    """
    older_sdk.call(namespace, "values.update", "k", value="v", metadata='{"m": 1}')

    stored = namespace.value("k")

    assert json.loads(stored or b"") == {"metadata": '{"m": 1}', "value": "v"}
    assert namespace.metadata("k") is None
    assert older_sdk.value(namespace, "k") == stored


def test_update_as_a_form(older_sdk: OlderSdk, namespace: Namespace) -> None:
    """Told the content type, it sends a form, metadata first: value and metadata are stored."""
    older_sdk.call(
        namespace,
        "values.update",
        "k",
        value="välue",
        metadata='{"m": 1}',
        expiration_ttl=3_600,
        extra_headers=FORM,
    )

    assert namespace.value("k") == "välue".encode()
    assert namespace.metadata("k") == {"m": 1}
    assert namespace.expiration("k") is not None


@pytest.mark.parametrize("key", ["a/b/c", "//x//", "a b+c", "ключ✓", "x" * 512])
async def test_keys_are_the_same_for_everybody(
    older_sdk: OlderSdk, namespace: Namespace, key: str
) -> None:
    """A key with raw slashes in its path is the one that others write with escapes."""
    older_sdk.call(namespace, "values.update", key, value="1", metadata="", extra_headers=FORM)
    by_plain_http = namespace.value(key)
    newer = connect_to("async", namespace.access)
    values = newer.kv.namespaces.values
    by_newer = await (await values.get(key, **place(namespace))).read()
    await values.update(key, **place(namespace), value=b"2")
    await newer.close()

    assert namespace.names() == [key]
    assert by_plain_http == by_newer == b"1"
    assert older_sdk.value(namespace, key) == b"2"


def test_slashes_are_the_same_for_wrangler(
    older_sdk: OlderSdk, namespace: Namespace, wrangler: Wrangler
) -> None:
    """What one wrote the other reads, in both directions."""
    flags = ("--namespace-id", namespace.id, "--remote")
    older_sdk.call(namespace, "values.update", "a/b", value="1", metadata="", extra_headers=FORM)

    read = wrangler.kv("key", "get", "a/b", *flags)
    wrangler.kv("key", "put", "c//d", "2", *flags)

    assert read.stdout == b"1"
    assert older_sdk.value(namespace, "c//d") == b"2"


@pytest.mark.parametrize("key", ["100%", "%2e", "%2E%2E", "%ff"])
def test_what_it_leaves_unescaped_is_refused(
    older_sdk: OlderSdk, namespace: Namespace, key: str
) -> None:
    """A broken escape, hidden dots and bytes that are no text: none of them becomes a key."""
    outcome = older_sdk.outcome(
        namespace, "values.update", key, value="v", metadata="", extra_headers=FORM
    )

    assert outcome.error == "BadRequestError"
    assert namespace.names() == []


@pytest.mark.parametrize("key", ["a?b=c#d&e", "100%", "a%2Fb", "a/../b", "new\nline", "a/b c+ü"])
def test_keys_that_were_escaped_first(older_sdk: OlderSdk, namespace: Namespace, key: str) -> None:
    """A program that quotes keys itself reaches every one of them."""
    quoted = quote(key, safe="")

    older_sdk.call(namespace, "values.update", quoted, value="v", metadata="", extra_headers=FORM)

    assert namespace.names() == [key]
    assert older_sdk.value(namespace, quoted) == b"v"


def test_what_follows_a_question_mark_is_lost(older_sdk: OlderSdk, namespace: Namespace) -> None:
    """Unescaped, the rest of the key is a query, and the key is what came before."""
    older_sdk.call(namespace, "values.update", "a?b", value="v", metadata="", extra_headers=FORM)

    assert namespace.names() == ["a"]


def test_two_dots_name_the_namespace(older_sdk: OlderSdk, namespace: Namespace) -> None:
    """This SDK folds `..` away and asks for the deletion of the namespace itself.

    Nothing tells the two requests apart; docs/clients.md warns of it. A read shows what it named.
    """
    answered = json.loads(older_sdk.value(namespace, ".."))

    assert answered["result"]["id"] == namespace.id


def test_requests_without_a_body_may_announce_json(
    older_sdk: OlderSdk, namespace: Namespace
) -> None:
    """It announces JSON on every request, also where there is none."""
    namespace.bulk([{"key": key, "value": "v", "metadata": {"k": key}} for key in "ab"])

    listed = older_sdk.call(namespace, "keys.list", limit=10.0)
    metadata = older_sdk.call(namespace, "metadata.get", "a")
    shown = older_sdk.call(namespace, "get")
    older_sdk.call(namespace, "values.delete", "a")

    assert listed == [{"name": key, "metadata": {"k": key}} for key in "ab"]
    assert metadata == {"k": "a"}
    assert isinstance(shown, dict)
    assert namespace.names() == ["b"]


def test_bulk_calls(older_sdk: OlderSdk, namespace: Namespace) -> None:
    """Many keys are written, read and deleted in one request each."""
    pairs = [{"key": f"k{n}", "value": str(n), "metadata": {"n": n}} for n in range(29)]

    written = older_sdk.call(namespace, "bulk_update", body=pairs)
    read = older_sdk.call(namespace, "bulk_get", keys=["k1", "missing"])
    deleted = older_sdk.call(namespace, "bulk_delete", body=[f"k{n}" for n in range(28)])

    assert written == {"successful_key_count": 29, "unsuccessful_keys": []}
    assert deleted == {"successful_key_count": 28, "unsuccessful_keys": []}
    assert read == {"values": {"k1": "1", "missing": None}}
    assert namespace.names() == ["k28"]


def test_errors_have_their_class_and_number(older_sdk: OlderSdk, namespace: Namespace) -> None:
    """A missing key and one that is too long."""
    missing = older_sdk.outcome(namespace, "values.get", "missing")
    long = older_sdk.outcome(namespace, "values.get", "x" * 513)

    assert (missing.error, missing.codes) == ("NotFoundError", [10009])
    assert (long.error, long.status, long.codes) == ("APIStatusError", 414, [10030])


def test_namespaces_are_listed_to_the_end(older_sdk: OlderSdk, namespace: Namespace) -> None:
    """Iterating ends behind the last namespace."""
    listed = older_sdk.call(namespace, "list", namespace_id=None)

    found = msgspec.convert(listed, list[Space])
    assert found == spaces(namespace.access)
    assert namespace.id in {space.id for space in found}
