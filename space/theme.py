"""The texts and the look of the page."""

from pathlib import Path

import gradio as gr


TITLE = "Apparent age and gender"
SUMMARY = "How old a face looks, with a 90 % range, and the gender label it gets."
PAGE_DESCRIPTION = f"{SUMMARY} Photos are not kept."
INTRODUCTION = """
# Apparent age and gender

How old a face looks, and which of the two labels of its training data, *female* and *male*, a small neural network gives
it. Beside each age stands a 90 % range, which is meant to hold the age of 90 % of faces. Looks are neither age nor identity, and
the network errs more on some groups of people than on others: do not use it for decisions about people.
"""
PRIVACY = """
**Privacy.** Photos, films and the faces cut out of them are used for nothing but the answer, are not shared between visitors and
are deleted within eleven minutes. There are no analytics.
"""

# Screen readers announce changes of some elements; Gradio has no argument for it. Where there is an MCP server, Gradio's API page
# opens with it unless the address of the page names another language.
HEAD = """
<script>
new MutationObserver(() => document.querySelectorAll(".prose.announced:not([aria-live])")
  .forEach((element) => element.setAttribute("aria-live", "polite")))
  .observe(document, {childList: true, subtree: true});
document.addEventListener("click", ({target}) => {
  const address = new URL(location);
  if (!target.closest?.(".show-api") || address.searchParams.has("lang")) return;
  address.searchParams.set("lang", "python");
  history.replaceState(history.state, "", address);
}, true);
</script>
"""
# Gradio 6.31 sets bold text in a font file of weight 600 that lacks most letters, and subdued text in light grey on white.
THEME = gr.themes.Default(
    font=(gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif")
).set(
    body_text_color_subdued="*neutral_500",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
)
# The charts of the data are drawn on white, with a legend where Gradio's buttons would lie. The tab for one photo shows its
# answer once there is one or it is waited for. Tables of figures are scrolled on a phone, where cells would break within words. Gradio splits selectors at commas, those in brackets too.
CSS = """
.dark .chart img { filter: invert(0.9) hue-rotate(180deg) } .chart img { margin-top: 2rem }
#answer:not(:has(.pending)):not(:has(.announced p)):not(:has(.picture)) { display: none }
#answer:has(.pending) { min-height: 60vh }
#answer:has(.pending) .announced { opacity: 0.2 }
#answer .html-container, #examples .html-container { padding: 0 }
#photo img { max-height: 380px; object-fit: contain }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 1.5rem }
.charts figure { margin: 0 }
.figures table { display: block; overflow-x: auto; border: 0; padding: 0 }
.figures th, .figures td { min-width: 5em; word-break: normal; overflow-wrap: normal }
@media (max-width: 480px) { .tab-container button { padding-inline: 0.5rem } }
"""


def read_component(name: str) -> dict[str, str]:
    """Returns the arguments of `gr.HTML` that the files `name.html`, `.css` and `.js` hold, of those that there are."""
    kinds = {"html_template": "html", "css_template": "css", "js_on_load": "js"}
    files = {argument: Path(__file__).with_name(f"{name}.{kind}") for argument, kind in kinds.items()}
    return {argument: file.read_text(encoding="utf-8") for argument, file in files.items() if file.exists()}
