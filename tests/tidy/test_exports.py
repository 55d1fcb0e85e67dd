"""`import atoll` gives the public names, and nothing else."""

import ast
import importlib

from tests.tidy.sources import SOURCE

ALLOWED = (ast.Import, ast.ImportFrom)


def test_public_names_are_sorted_and_there() -> None:
    """`__all__` lists each name once, in order, and every one of them can be imported."""
    atoll = importlib.import_module("atoll")
    names: list[str] = atoll.__all__

    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(atoll, name)] == []


def test_the_package_itself_holds_names_only() -> None:
    """`atoll/__init__.py` imports and lists names; what they stand for is defined elsewhere."""
    tree = ast.parse((SOURCE / "atoll" / "__init__.py").read_text())
    docstring, *statements = tree.body
    targets = [
        ast.unparse(target)
        for statement in statements
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    ]

    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(statement, (*ALLOWED, ast.Assign)) for statement in statements)
    assert set(targets) <= {"__all__", "__version__"}
