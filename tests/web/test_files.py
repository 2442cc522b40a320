"""The files of the page without a server."""

import json
import re

import pytest

from tests.support.web_page import OLD_FILE, PLACE


pytestmark = pytest.mark.browser


def test_page_keeps_all_of_its_files_and_no_others(root):
    page = root / PLACE
    script = (page / "service_worker.js").read_text(encoding="utf-8")
    _, files, large = (json.loads(text) for text in re.findall(r"^const [A-Z]+ = (.+);$", script, re.MULTILINE)[:3])
    names = {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
    kept = {name.partition("?")[0] for name in files + large}
    assert kept == names - {OLD_FILE, "README.md", "service_worker.js"} | {"./"}


def test_no_file_names_another_site(root):
    """Tables and sentences may name one, nothing that a browser loads does."""
    page = root / PLACE
    for path in (*page.glob("*.html"), *page.glob("*.css"), *page.glob("*.js"), *page.glob("components/*.js")):
        text = path.read_text(encoding="utf-8")
        assert (
            re.findall(r"(?:https?:)?//[\w-]+\.\w[\w.]+", re.sub(r"^\s*//.*", "", text, flags=re.MULTILINE)) == []
        ), path
