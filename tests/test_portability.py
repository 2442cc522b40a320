"""The code follows the rules of all systems, those of Windows included."""

import ast

import pytest

from tests.test_imports import MODULES


def find_text_calls(tree: ast.Module) -> list[ast.Call]:
    """Finds calls of `open`, `read_text` and `write_text` that may read or write text."""
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            # The mode is the second argument of `open` and the first of `Path.open`; `os.open` has flags there.
            arguments = node.args[1:] if isinstance(node.func, ast.Name) else node.args
            modes = [value.value for value in arguments if isinstance(value, ast.Constant)]
            is_builtin = name == "open" and isinstance(node.func, ast.Name)
            has_text_mode = any(isinstance(mode, str) and mode in {"r", "w", "a", "x", "r+"} for mode in modes)
            if name in {"read_text", "write_text"} or (is_builtin and not modes) or (name == "open" and has_text_mode):
                calls.append(node)
    return calls


@pytest.mark.parametrize("name", MODULES)
def test_text_is_utf_8_on_every_system(name):
    """Without an encoding, Windows reads and writes that of its language."""
    calls = find_text_calls(MODULES[name])
    assert [call.lineno for call in calls if "encoding" not in {keyword.arg for keyword in call.keywords}] == []


def test_calls_without_an_encoding_are_found():
    lines = [
        "open(p)",
        'open(p, "w")',
        'p.open("a")',
        "p.read_text()",
        "p.write_text(t)",
        'open(p, "rb")',
        "os.open(p, 0)",
    ]
    assert [len(find_text_calls(ast.parse(line))) for line in lines] == [1, 1, 1, 1, 1, 0, 0]
