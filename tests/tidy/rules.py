"""The rules about source text that no linter we use can state, as functions from text to faults.

Each takes the text of one file and returns one line per fault, empty if there is none, so that
`test_rules.py` can show that every rule finds what it is for.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

FUNCTION_LINES_MAX: Final = 70
MODULE_LINES_MAX: Final = 600

# Written in two halves, or this file would break its own rule.
PUT_OFF: Final = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")

# Raised for whoever broke an internal promise, never for a caller to catch.
OWN_FAULT: Final = frozenset({"AssertionError", "NotImplementedError"})

SKIPS: Final = frozenset({"skip", "skipif", "xfail", "importorskip"})

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def functions(text: str) -> Iterator[Function]:
    """Every function and method in `text`, nested ones included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Everything inside `function` that does not belong to a function within it."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def long_functions(text: str) -> list[str]:
    """Functions that do not fit on a screen."""
    lengths = ((f, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions(text))
    return [f"{f.lineno}: {f.name} has {n} lines" for f, n in lengths if n > FUNCTION_LINES_MAX]


def long_module(text: str) -> list[str]:
    """A module that cannot be read in one sitting."""
    lines = text.count("\n")
    return [f"{lines} lines"] if lines > MODULE_LINES_MAX else []


def silent_module(text: str) -> list[str]:
    """A module that does not say what it is for."""
    return [] if ast.get_docstring(ast.parse(text)) else ["no docstring"]


def undocumented_raises(text: str) -> list[str]:
    """Errors that a public function raises by name and does not list under `Raises:`."""
    faults: list[str] = []
    for function in functions(text):
        if function.name.startswith("_"):
            continue
        _, _, listed = (ast.get_docstring(function) or "").partition("Raises:")
        raised = {
            node.exc.func.id
            for node in own_nodes(function)
            if isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
            and node.exc.func.id[0].isupper()  # A function that returns an error names none.
        }
        missing = {name for name in raised - OWN_FAULT if f"{name}:" not in listed}
        faults += [f"{function.lineno}: {function.name} raises {n}" for n in sorted(missing)]
    return faults


def explains(call: ast.Call) -> bool:
    """Whether `call`, which skips something, gives a reason that is not empty."""
    reasons = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    if isinstance(call.func, ast.Attribute) and call.func.attr == "skip":
        reasons += call.args[:1]
    return any(not isinstance(reason, ast.Constant) or reason.value for reason in reasons)


def unexplained_skips(text: str) -> list[str]:
    """Tests that are skipped, or expected to fail, without saying why."""
    nodes = list(ast.walk(ast.parse(text)))
    explained = {id(call.func) for call in nodes if isinstance(call, ast.Call) and explains(call)}
    return [
        f"{node.lineno}: {ast.unparse(node)} gives no reason"
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr in SKIPS
        and ast.unparse(node.value) in {"pytest", "pytest.mark"}
        and id(node) not in explained
    ]


def put_off(text: str) -> list[str]:
    """Work that was put off in a comment, where nobody will look for it."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"{number}: {line.strip()}" for number, line in lines if PUT_OFF.search(line)]
