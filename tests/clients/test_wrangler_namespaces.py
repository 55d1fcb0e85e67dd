"""wrangler makes, lists, renames and deletes namespaces, by name and by id."""

import json
from collections.abc import Iterator

from tests.clients.plain import Access, create, titles
from tests.clients.wrangler import Wrangler


def test_create_tells_the_id_under_which_it_made_one(
    wrangler: Wrangler, access: Access, numbers: Iterator[int]
) -> None:
    """What is printed for the configuration file is the id of a namespace with that title."""
    title = f"made-{next(numbers)}"

    ran = wrangler.kv("namespace", "create", title)

    assert f'"id": "{titles(access)[title]}"' in ran.out


def test_create_refuses_a_title_that_is_taken(
    wrangler: Wrangler, access: Access, numbers: Iterator[int]
) -> None:
    """Wrangler knows the error for it, and explains it in words of its own."""
    title = f"taken-{next(numbers)}"
    first = create(access, title)

    complaint = wrangler.refused("namespace", "create", title)

    assert f'A KV namespace with the title "{title}" already exists' in complaint
    assert titles(access)[title] == first.id


def test_create_makes_a_preview_namespace(
    wrangler: Wrangler, access: Access, numbers: Iterator[int]
) -> None:
    """A preview namespace is one like any other, with a suffix to its title."""
    title = f"seen-{next(numbers)}"

    ran = wrangler.kv("namespace", "create", title, "--preview")

    assert f'"preview_id": "{titles(access)[f"{title}_preview"]}"' in ran.out


def test_rename_by_name_and_by_id(
    wrangler: Wrangler, access: Access, numbers: Iterator[int]
) -> None:
    """A namespace keeps its id and gets another title, however it was named."""
    title = f"old-{next(numbers)}"
    namespace = create(access, title)

    by_name = wrangler.kv("namespace", "rename", title, "--new-name", f"{title}-b")
    after_first = titles(access)
    by_id = wrangler.kv(
        "namespace", "rename", "--namespace-id", namespace.id, "--new-name", f"{title}-c"
    )
    after_second = titles(access)

    assert f'Successfully renamed namespace to "{title}-b"' in by_name.out
    assert f'Successfully renamed namespace to "{title}-c"' in by_id.out
    assert after_first[f"{title}-b"] == after_second[f"{title}-c"] == namespace.id
    assert {title, f"{title}-b"}.isdisjoint(after_second)


def test_rename_refuses_a_title_that_is_taken(
    wrangler: Wrangler, access: Access, numbers: Iterator[int]
) -> None:
    """Two namespaces of an account never share a title."""
    taken = f"taken-{next(numbers)}"
    create(access, taken)
    namespace = create(access, f"{taken}-not")

    complaint = wrangler.refused(
        "namespace", "rename", "--namespace-id", namespace.id, "--new-name", taken
    )

    assert "[code: 10014]" in complaint
    assert titles(access)[f"{taken}-not"] == namespace.id


def test_delete_by_name_and_by_id(
    wrangler: Wrangler, access: Access, numbers: Iterator[int]
) -> None:
    """A namespace is gone with its keys, however it was named."""
    title = f"gone-{next(numbers)}"
    by_name, by_id = create(access, title), create(access, f"{title}-too")
    by_name.put("k", b"v")
    by_id.put("k", b"v")

    first = wrangler.kv("namespace", "delete", title)
    second = wrangler.kv("namespace", "delete", "--namespace-id", by_id.id)

    assert f'Deleted KV namespace name: "{title}" (id: "{by_name.id}")' in first.out
    assert f'Deleted KV namespace id: "{by_id.id}"' in second.out
    assert {by_name.id, by_id.id}.isdisjoint(titles(access).values())
    assert {by_name.get("k").code, by_id.get("k").code} == {10013}


def test_delete_of_an_unknown_namespace_is_refused(wrangler: Wrangler) -> None:
    """An id that nothing has is told apart from success."""
    complaint = wrangler.refused("namespace", "delete", "--namespace-id", "0" * 32)

    assert "[code: 10013]" in complaint


def test_list_prints_every_namespace(
    wrangler: Wrangler, access: Access, numbers: Iterator[int]
) -> None:
    """The listing is JSON, ordered by title, and holds what plain HTTP shows."""
    create(access, f"Straße {next(numbers)}")

    listed = json.loads(wrangler.kv("namespace", "list").stdout)

    assert {row["title"]: row["id"] for row in listed} == titles(access)
    assert [row["title"] for row in listed] == sorted(row["title"] for row in listed)
    assert all(row["supports_url_encoding"] is True for row in listed)
