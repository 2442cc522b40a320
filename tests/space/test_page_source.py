"""The page as programs read it that show a preview of a link."""

import io
import re

import httpx2
from PIL import Image

from space.theme import PAGE_DESCRIPTION, TITLE


def read_tags(page: str) -> dict[str, list[str]]:
    """The contents of the elements that describe a page, by name."""
    tags = {}
    for name, content in re.findall(
        r'<meta\s+(?:property|name)="((?:og|twitter):\w+|description)"\s+content="([^"]*)"', page
    ):
        tags.setdefault(name, []).append(content)
    return tags


def test_link_to_the_page_has_a_preview(url):
    tags = read_tags(httpx2.get(url).text)
    assert tags == {
        "og:type": ["website"],
        "og:url": [url],
        "og:title": [TITLE],
        "og:description": [PAGE_DESCRIPTION],
        "og:image": [f"{url}preview.png"],
        "twitter:card": ["summary_large_image"],
        "description": [PAGE_DESCRIPTION],
    }
    picture = Image.open(io.BytesIO(httpx2.get(tags["og:image"][0]).content))
    assert picture.width >= 1000


def test_preview_has_the_address_that_visitors_see(url, monkeypatch):
    headers = {"X-Forwarded-Host": "me-faces.hf.space", "X-Forwarded-Proto": "https"}
    assert read_tags(httpx2.get(url, headers=headers).text)["og:url"] == ["https://me-faces.hf.space/"]
    monkeypatch.setenv("GRADIO_ROOT_PATH", "https://a.example/faces/")
    assert read_tags(httpx2.get(url).text)["og:image"] == ["https://a.example/faces/preview.png"]
