"""Imports lead downward, and the files that travel to the Hub need few packages."""

import ast
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports


ROOT = Path(__file__).parents[1]
MODEL_FILES = {
    "configuration_agegender",
    "face_detection",
    "image_formats",
    "image_processing_agegender",
    "image_reading",
    "modeling_agegender",
    "pipeline_agegender",
}
PROGRAMS = {"app", "evaluation", "predict", "train"}
# The floors that each floor may import beside itself. A model file is named in full: its imports are a contract.
ALLOWED = {
    "configuration_agegender": {"image_processing_agegender", "modeling_agegender"},  # when it saves them
    "face_detection": {"image_processing_agegender"},
    "image_processing_agegender": {"configuration_agegender", "image_reading"},
    "image_formats": set(),
    "image_reading": {"image_formats"},
    "modeling_agegender": {"configuration_agegender", "image_processing_agegender", "pipeline_agegender"},
    "pipeline_agegender": {"configuration_agegender", "face_detection", "image_processing_agegender", "image_reading"},
    "files": MODEL_FILES,
    "metrics": MODEL_FILES,
    "hub": MODEL_FILES | {"metrics"},
    "photos": MODEL_FILES | {"files"},
    "data": MODEL_FILES | {"files", "hub"},
    "space": MODEL_FILES | {"files", "metrics.results", "metrics.tables", "metrics.charts", "hub", "photos"},
    "training": MODEL_FILES | {"files", "metrics", "hub", "data"},
}
ROOMS = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()} - {"tests"}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted([*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).glob("**/*.py"))])
}
PACKAGES_THAT_TRAVEL = {"torch", "transformers", "numpy", "PIL"}


def find_imports(tree: ast.Module) -> set[str]:
    """The project's modules that a file imports, in `try` and in functions too, as dotted names."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names.update(f"{module}.{alias.name}".strip(".") for alias in node.names)
    return {name for name in names if name.split(".")[0] in ROOMS | MODULES.keys() | {"tests"}}


def is_allowed(name: str, allowed: set[str]) -> bool:
    return any(name == floor or name.startswith(f"{floor}.") for floor in allowed)


@pytest.mark.parametrize("name", MODULES)
def test_imports_lead_downward(name):
    floor = name.split(".")[0]
    imports = find_imports(MODULES[name])
    if floor in ALLOWED:
        allowed = ALLOWED[floor] | (set() if floor in MODEL_FILES else {floor})
        assert {other for other in imports if not is_allowed(other, allowed)} == set()
    else:
        assert {other for other in imports if is_allowed(other, PROGRAMS)} == set() or floor == "benchmarks"


def test_every_file_of_the_root_is_a_program_or_travels():
    assert {path.stem for path in ROOT.glob("*.py")} == MODEL_FILES | PROGRAMS


@pytest.mark.parametrize("name", sorted(MODEL_FILES))
def test_file_that_travels_needs_few_packages(name):
    """What transformers asks a person to install before it loads the file as remote code."""
    assert set(get_imports(ROOT / f"{name}.py")) - sys.stdlib_module_names <= PACKAGES_THAT_TRAVEL


@pytest.mark.parametrize("name", sorted(MODEL_FILES))
def test_file_that_travels_imports_siblings_both_ways(name):
    """`from .x import y`, as remote code, and in the same `try` else `from x import y`, in this folder."""
    relative, absolute = set(), set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.ImportFrom) and node.module in MODEL_FILES:
            (relative if node.level else absolute).add((node.module, tuple(alias.name for alias in node.names)))
    assert relative == absolute


def test_the_image_holds_what_the_page_imports():
    """`.dockerignore` leaves out all that it does not name."""
    named = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    rooms = {name.partition(".")[0] for name in ALLOWED["space"] - MODEL_FILES} | {"space"}
    assert {f"!{room}" for room in rooms} <= {*named}
