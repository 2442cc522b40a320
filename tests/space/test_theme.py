"""What is sent to those who run no JavaScript."""

import re
from html import unescape

import gradio as gr
import httpx
import pytest

from space.theme import describe_page


TITLE, DESCRIPTION = "Ages & <faces>", 'How old a face "looks"'


@pytest.fixture
def url():
    with gr.Blocks(title=TITLE, analytics_enabled=False) as demo:
        gr.Markdown("Hello")
    describe_page("something else")  # the last one counts
    describe_page(DESCRIPTION)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    yield address
    demo.close()


def test_preview_of_a_link_names_the_page(url):
    text = httpx.get(url).text
    meta = [(name, unescape(content)) for name, content in re.findall(r'<meta \w+="(\S+)" content="(.*?)">', text)]
    assert sorted(pair for pair in meta if pair[0].startswith(("og:", "twitter:", "description"))) == [
        ("description", DESCRIPTION),
        ("og:description", DESCRIPTION),
        ("og:title", TITLE),
        ("og:type", "website"),
        ("og:url", url),
        ("twitter:card", "summary"),
        ("twitter:description", DESCRIPTION),
        ("twitter:title", TITLE),
    ]
    assert [unescape(title) for title in re.findall("<title>(.*)</title>", text)] == [TITLE]
    assert text.count("og:title") == text.count("og:url") == 1
    assert "Click to try out" not in text and "{url}" not in text and "header-image" not in text


def test_page_is_known_by_the_address_of_the_visitor(url):
    headers = {"x-forwarded-host": "faces.example.org", "x-forwarded-proto": "https"}
    assert '<meta property="og:url" content="https://faces.example.org/">' in httpx.get(url, headers=headers).text
