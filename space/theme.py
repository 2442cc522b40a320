"""What those read who run no JavaScript, such as the preview of a link: the name of the page and what it is for."""

import re
from html import escape

import gradio as gr
from gradio.routes import templates
from jinja2 import BaseLoader


HEAD = """
<script>
// A screen reader says what changes in these; gradio has no argument for it.
new MutationObserver(() => document.querySelectorAll(".prose.announced:not([aria-live])")
  .forEach((element) => element.setAttribute("aria-live", "polite")))
  .observe(document, {childList: true, subtree: true});
</script>
"""
# Gradio 6.31 sets bold text in a file of weight 600 that lacks most letters, and quiet text in light grey on white.
THEME = gr.themes.Default(
    font=(gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif")
).set(
    body_text_color_subdued="*neutral_500",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
)
# The charts of the data are drawn on white, with a legend where gradio's buttons would lie.
CSS = ".dark .chart img { filter: invert(0.9) hue-rotate(180deg) } .chart img { margin-top: 2rem }"


GRADIO_META = re.compile(r"""<meta\s+(?:property="og:|name="twitter:)[^>]*>\s*""")
# `config` is the page's, with the address under which the visitor asked for it.
OWN_META = """
<title>{{{{ config['title'] or '' }}}}</title>
<meta name="description" content="{description}">
<meta property="og:type" content="website">
<meta property="og:title" content="{{{{ config['title'] or '' }}}}">
<meta property="og:description" content="{description}">
<meta property="og:url" content="{{{{ config['root'] }}}}/">
<meta name="twitter:card" content="summary">
<meta name="twitter:title" content="{{{{ config['title'] or '' }}}}">
<meta name="twitter:description" content="{description}">
"""


class OwnMeta(BaseLoader):
    """Gradio's templates with this in the place of their meta data, which name gradio."""

    def __init__(self, loader: BaseLoader, meta: str):
        self.loader, self.meta = loader, meta

    def get_source(self, environment, template):
        source, *rest = self.loader.get_source(environment, template)
        return GRADIO_META.sub("", source).replace("</head>", f"{self.meta}</head>", 1), *rest


def describe_page(description: str):
    """Has every page of this process be sent with its own title and this description, where gradio 6.31 sends its own."""
    loader = templates.env.loader
    if isinstance(loader, OwnMeta):
        loader = loader.loader
    templates.env.loader = OwnMeta(loader, OWN_META.format(description=escape(description)))
