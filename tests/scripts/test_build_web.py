"""The build of the page without a server takes what it shows from the model and from the other page."""

import json

import pytest

import face_detection
import image_formats
import image_processing_agegender
from image_processing_agegender import AgeGenderImageProcessor
from scripts import build_web
from scripts.build_web import describe_processor, install_runtime, make_component, read_constants, translate
from space import face_cards, photo_tab


def test_settings_follow_the_image_processor():
    changes = {"size": {"height": 48, "width": 40}, "resample": 3, "image_std": [0.5] * 3}
    processor = describe_processor(AgeGenderImageProcessor(**changes))
    assert (processor["size"]["height"], processor["size"]["width"], processor["resample"]) == (48, 40, 3)
    assert list(processor["image_std"]) == [0.5] * 3


@pytest.mark.parametrize(
    ("change", "reason"), [({"resample": 0}, "which resize.js lacks"), ({"do_normalize": False}, "must resize")]
)
def test_processor_that_the_page_does_not_know_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        describe_processor(AgeGenderImageProcessor(**change))


def test_constants_are_those_of_python():
    constants = read_constants(face_detection)
    assert constants["COARSE_PIXELS"] == list(face_detection.COARSE_PIXELS) and constants["ROUGH_ANGLES"][:2] == [
        0,
        45,
    ]
    assert len(read_constants(image_processing_agegender)["UTKFACE_TEMPLATE"]) == 5
    assert read_constants(image_formats)["SIGNATURES"]["PNG"] == r"\x89PNG\r\n\x1a\n"
    assert read_constants(face_cards)["CROWD"] == face_cards.CROWD
    assert json.dumps(read_constants(photo_tab)["EXAMPLES"])


def test_templates_become_literals():
    text = "{{#if value.cards}}`${x}`{{#each value.cards}}{{this.age}}{{{this.plot}}}{{/each}}{{/if}}{{name}}"
    assert translate(text) == (
        r"`${isFull(props.value?.cards) ? `\`\${x}\`${(props.value?.cards ?? []).map((item) => "
        r"""`${escape(item.age)}${item.plot ?? ''}`).join("")}` : ""}${escape(props.name)}`"""
    )


@pytest.mark.parametrize(("name", "script"), build_web.COMPONENTS.items())
def test_no_braces_of_a_template_are_left(name, script):
    assert "{{" not in make_component(name, script).partition("export function start")[0]


def test_missing_npm_gets_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(build_web, "RUNTIME", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match="install Node.js"):
        install_runtime()
