"""A card for each face: the aligned crop, age, gender and the distribution of the age."""

import base64
import json

from photos.face_table import face_rows, to_csv
from photos.wording import describe_gender, describe_interval
from space.uploads import save_picture


CROP_SIDE = 112  # pixels
CROWD = 12  # faces beyond which a table comes before the cards
PLOT_WIDTH, PLOT_HEIGHT, PLOT_FOOT = 202, 44, 14
# Age, text and anchor of each tick; the last bar stands for all higher ages as well.
TICKS = [(0, "0", "start"), *((age, str(age), "middle") for age in (20, 40, 60, 80)), (100, "100+", "end")]

# Handlebars, for gr.HTML. Crops are files, so that they are deleted with the uploads.
TEMPLATE = """
{{#if value.cards}}
{{#if value.is_crowd}}
<div class="crowd" role="region" aria-label="Table of faces" tabindex="0"><table>
<thead><tr><th>Face</th><th>Age</th><th>Range</th><th>Gender</th></tr></thead>
<tbody>{{#each value.cards}}<tr><th><img src="{{this.crop.url}}" alt=""/> {{this.number}}</th><td>{{this.age}}</td>
<td>{{this.range}}</td><td>{{this.gender}}</td></tr>{{/each}}</tbody>
</table></div>
<details><summary>A card for each face, with its probabilities</summary>
{{/if}}
<ul class="cards" aria-label="Cards of faces" tabindex="0">
{{#each value.cards}}
<li class="card"><img src="{{this.crop.url}}" alt="Face {{this.number}}, aligned"/>
<div><div class="number">Face {{this.number}}</div><div class="age">{{this.age}} years</div>
<div class="detail">{{this.range}} nine times of ten</div><div class="detail gender">{{this.gender}}</div></div>
{{{this.plot}}}</li>
{{/each}}
</ul>
{{#if value.is_crowd}}</details>{{/if}}
<p class="downloads">{{{value.links}}}</p>
{{/if}}
"""
LINKS_STYLE = """
.downloads { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 10px; }
.downloads a { color: var(--link-text-color); text-decoration: underline; }
"""
STYLE = (
    """
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 10px; max-height: 70vh;
    overflow-y: auto; margin: 0; padding: 2px; list-style: none; }
.card { display: grid; grid-template-columns: 84px 1fr; gap: 2px 10px; padding: 10px; border-radius: 10px; margin: 0;
    border: 1px solid var(--border-color-primary); background: var(--block-background-fill);
    color: var(--body-text-color); }
.card img { width: 84px; height: 84px; border-radius: 8px; margin: 0; }
.card .number { color: var(--body-text-color-subdued); font-size: 0.8rem; }
.card .age { font-size: 1.5rem; font-weight: 650; line-height: 1.2; }
.card .detail { font-size: 0.85rem; }
.card svg { grid-column: 1 / 3; width: 100%; height: auto; }
.card svg .all { fill: var(--body-text-color-subdued); opacity: 0.45; }
.card svg .likely { fill: var(--color-accent); }
.crowd { max-height: 70vh; overflow-y: auto; margin-bottom: 10px; }
.crowd table { width: 100%; margin: 0; border: 0 !important; border-collapse: collapse; }
.crowd tr { border: 0; }
.crowd th { white-space: nowrap; }
.crowd tbody th { min-width: 92px; }
.crowd thead th { position: sticky; top: 0; background: var(--background-fill-primary); }
.crowd th, .crowd td { padding: 3px 8px; text-align: left; color: var(--body-text-color); border: 0;
    border-bottom: 1px solid var(--border-color-primary); }
.crowd img { display: inline-block; width: 44px; height: 44px; border-radius: 6px; margin: 0 6px 0 0;
    vertical-align: middle; }
summary { cursor: pointer; margin-bottom: 8px; }
.card svg text { fill: var(--body-text-color-subdued); font-size: 9px; }
"""
    + LINKS_STYLE
)


def make_cards(file: str, faces: list[dict]) -> dict | None:
    """
    Makes the cards of a picture, and links that save its numbers.

    Args:
        file: The name of the picture in the CSV.
        faces: Dicts of the pipeline with `crop` and `age_distribution`.

    Returns:
        The value for `TEMPLATE`, or None if there is no face. The links hold the tables themselves.
    """
    if not faces:
        return None
    numbers = [{name: value for name, value in face.items() if name != "crop"} for face in faces]
    links = make_link("faces.csv", "text/csv", "Save as CSV", to_csv(face_rows(file, faces)))
    links += make_link("faces.json", "application/json", "Save as JSON", json.dumps(numbers, indent=2))
    cards = [make_card(number, face) for number, face in enumerate(faces, start=1)]
    return {"cards": cards, "is_crowd": len(cards) > CROWD, "links": links}


def make_card(number: int, face: dict) -> dict:
    """Returns the values of a card of `TEMPLATE`."""
    return {
        "number": number,
        "crop": save_picture(face["crop"].resize((CROP_SIDE, CROP_SIDE))),
        "age": round(face["age"]),
        "range": describe_interval(*face["age_interval"]),
        "gender": describe_gender(face),
        "plot": draw_distribution(face["age_distribution"], *face["age_interval"]),
    }


def draw_distribution(probabilities: list[float], low: float, high: float) -> str:
    """Draws the distribution of the age as an SVG with a bar for each year, coloured from `low` to `high`."""
    width, top = PLOT_WIDTH / len(probabilities), max(probabilities)
    bars = []
    for age, probability in enumerate(probabilities):
        height = PLOT_HEIGHT * probability / top
        kind = "likely" if round(low) <= age <= round(high) else "all"
        place = f"x='{age * width:.1f}' y='{PLOT_HEIGHT - height:.1f}' width='{width:.2f}' height='{height:.1f}'"
        bars.append(f"<rect class='{kind}' {place}/>")
    ticks = "".join(
        f"<text x='{(age + 0.5) * width:.0f}' y='{PLOT_HEIGHT + PLOT_FOOT - 3}' text-anchor='{anchor}'>{tick}</text>"
        for age, tick, anchor in TICKS
        if age < len(probabilities)
    )
    label = f"Probability of each age; nine times of ten {low:.0f} to {high:.0f} years"
    box = f"0 0 {PLOT_WIDTH} {PLOT_HEIGHT + PLOT_FOOT}"
    return f"<svg viewBox='{box}' role='img' aria-label='{label}'>{''.join(bars)}{ticks}</svg>"


def make_link(name: str, kind: str, text: str, content: str) -> str:
    """Makes a link that holds a text and saves it as a file."""
    data = base64.b64encode(content.encode()).decode()
    return f"<a download='{name}' href='data:{kind};base64,{data}'>{text}</a>"
