"""Imports go one way, and the files that travel to the Hub need no more than they may."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports


ROOT = Path(__file__).parents[1]
MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted(ROOT.glob("*.py"))}

# The siblings that a file may import. Files not named here may import any that leads back to no file that imports them.
ALLOWED_SIBLINGS = {
    "configuration_agegender": set(),
    "modeling_agegender": {"configuration_agegender"},
    "image_processing_agegender": {"configuration_agegender"},
    "face_detection": {"configuration_agegender"},
    "pipeline_agegender": {"face_detection", "image_processing_agegender"},
    "augmentation": {"configuration_agegender"},
    "metrics": {"configuration_agegender"},
    "calibration": {"configuration_agegender", "metrics", "modeling_agegender"},
    "hub_errors": set(),
    "model_loading": {"configuration_agegender", "hub_errors", "image_processing_agegender", "modeling_agegender"},
    "distillation": {"configuration_agegender", "model_loading", "modeling_agegender"},
    "image_sources": {"hub_errors"},
    "near_duplicates": set(),
    "utkface": {"configuration_agegender", "image_sources", "near_duplicates"},
}
PROGRAMS = {"app", "predict", "train"}

FILES_THAT_TRAVEL = [
    "configuration_agegender",
    "modeling_agegender",
    "image_processing_agegender",
    "pipeline_agegender",
    "face_detection",
]
PACKAGES_THAT_TRAVEL = {"torch", "transformers", "numpy", "PIL"}


def imported_siblings(tree: ast.Module) -> set[str]:
    """Modules of this folder that a file imports, in `try` and in functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update([node.module] if node.module else (alias.name for alias in node.names))
    return {name.split(".")[0] for name in names} & MODULES.keys()


@pytest.mark.parametrize("name", ALLOWED_SIBLINGS.keys() & MODULES.keys())
def test_file_imports_only_what_it_may(name):
    assert imported_siblings(MODULES[name]) <= ALLOWED_SIBLINGS[name]


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_a_program(name):
    assert not imported_siblings(MODULES[name]) & PROGRAMS


def test_no_import_leads_back():
    """Raises `graphlib.CycleError` with the cycle."""
    order = list(TopologicalSorter({name: imported_siblings(tree) for name, tree in MODULES.items()}).static_order())
    assert order.index("configuration_agegender") < order.index("modeling_agegender")


@pytest.mark.parametrize("name", FILES_THAT_TRAVEL)
def test_file_that_travels_needs_few_packages(name):
    """What transformers asks a person to install before it loads the file as remote code."""
    packages = set(get_imports(ROOT / f"{name}.py")) - sys.stdlib_module_names
    assert packages <= PACKAGES_THAT_TRAVEL


@pytest.mark.parametrize("name", FILES_THAT_TRAVEL)
def test_file_that_travels_imports_siblings_both_ways(name):
    """`from .x import y`, as remote code, and in the same `try` else `from x import y`, in this folder."""
    relative, absolute = set(), set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            (relative if node.level else absolute).add((node.module, tuple(alias.name for alias in node.names)))
    assert relative == absolute
