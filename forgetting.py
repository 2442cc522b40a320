"""How long the server keeps what visitors send: gradio, left to itself, keeps some of it for good."""

from collections.abc import Iterator

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_pil_to_cache
from gradio.state_holder import SessionState
from PIL import Image


class SteadySet(set):
    """A set that can be gone through while another thread adds to it."""

    def __iter__(self) -> Iterator:
        return set.__iter__(self.copy())


def forget_visits(demo: gr.Blocks):
    """
    Makes gradio 6.31 forget what it keeps of a visit; to be called when the page is built.

    Of each visitor it remembers what every component last received and showed, pictures in text included, until many
    others have come; only its deep links, which this page has none of, read that. And what deletes old files every
    minute goes through sets of them which requests add to: the first time that meets, it ends and never deletes again.
    """
    SessionState._update_value_in_config = lambda self, key, value: None
    demo.upload_file_set = SteadySet(demo.upload_file_set)
    components = [block for block in demo.blocks.values() if isinstance(block, gr.components.Component)]
    for component in components:
        component.temp_files = SteadySet(component.temp_files)
    demo.temp_file_sets = [demo.upload_file_set, *(component.temp_files for component in components)]


def keep_briefly(picture: Image.Image, component: gr.components.Component) -> dict:
    """
    Saves a picture as a file that `component` may show and that `delete_cache` deletes.

    Returns:
        The file as gradio sends it to the browser, which finds its address as `url`.
    """
    path = save_pil_to_cache(picture, component.GRADIO_CACHE, format="jpeg")
    component.move_resource_to_block_cache(path)  # which lies there already: from now on it is known as one to delete
    return FileData(path=path).model_dump()
