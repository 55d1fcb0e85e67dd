"""The rules find what they are for, and let pass what they are not for."""

from textwrap import dedent, indent

from tests.tidy.rules import (
    FUNCTION_LINES_MAX,
    MODULE_LINES_MAX,
    long_functions,
    long_module,
    put_off,
    silent_module,
    undocumented_raises,
    unexplained_skips,
)


def function_of(lines: int) -> str:
    """Write a method that is `lines` long."""
    return "class C:\n" + indent("def f(self):\n" + "    pass\n" * (lines - 1), "    ")


def test_a_function_is_long_from_its_71st_line() -> None:
    """The limit itself is allowed, one line more is not, in classes too."""
    assert long_functions(function_of(FUNCTION_LINES_MAX)) == []
    assert long_functions(function_of(FUNCTION_LINES_MAX + 1)) == ["2: f has 71 lines"]


def test_a_module_is_long_from_its_601st_line() -> None:
    """The limit itself is allowed, one line more is not."""
    assert long_module("\n" * MODULE_LINES_MAX) == []
    assert long_module("\n" * (MODULE_LINES_MAX + 1)) == ["601 lines"]


def test_a_module_says_what_it_is_for() -> None:
    """A comment is no docstring."""
    assert silent_module('"""Doc."""\nA = 1\n') == []
    assert silent_module("# Doc.\nA = 1\n") == ["no docstring"]


def test_raised_errors_are_listed() -> None:
    """An error counts as listed under `Raises:` only, and only in the function that raises it."""
    text = dedent('''
        def listed():
            """Do it.

            Raises:
                GoneError: it is gone.
            """
            raise GoneError(key=1)

        def mentioned():
            """Do it; GoneError: see elsewhere."""
            raise GoneError(key=1)

        def outer():
            """Do it."""
            def _inner():
                raise GoneError(key=1)
            if broken:
                raise error_for(1)
            raise AssertionError("never")
    ''')

    assert undocumented_raises(text) == ["10: mentioned raises GoneError"]


def test_a_skip_gives_its_reason() -> None:
    """A bare mark, a call without a reason and an empty reason are all found."""
    explained = dedent("""
        pytest.skip("no disk")
        pytest.skip(f"no {disk}")
        pytest.mark.skipif(MAC, reason="no disk")
        pytest.mark.xfail(reason="known")
        store.skip()
    """)
    unexplained = dedent("""
        pytest.skip()
        pytest.mark.skip
        pytest.mark.skipif(MAC, reason="")
        pytest.importorskip("lmdb")
    """)

    assert unexplained_skips(explained) == []
    assert sorted(unexplained_skips(unexplained)) == [
        "2: pytest.skip gives no reason",
        "3: pytest.mark.skip gives no reason",
        "4: pytest.mark.skipif gives no reason",
        "5: pytest.importorskip gives no reason",
    ]


def test_work_put_off_is_found_wherever_it_is_written() -> None:
    """The word alone is enough; as a part of another word it is not."""
    word = "TO" + "DO"

    assert put_off(f"x = 1\n# {word}(ann): later\n") == [f"2: # {word}(ann): later"]
    assert put_off(f"MAS{word}N = 1\n") == []
