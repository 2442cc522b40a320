"""Whatever happens to a file on its way, it is read or refused with a sentence, soon and in bounded memory."""

import json
import subprocess
import sys

import pytest

from tests.support.training import ROOT


pytest.importorskip("pillow_heif")
COUNT, SEED = 1000, 16
MAX_SECONDS, MAX_MEGABYTES = 3, 3000
# Each picture through the pipeline's reading and the page's, which must agree; any other error ends the process.
READ_ALL = """
import json, resource, sys, time, warnings

from image_reading import to_rgb
from photos.reading import PhotoError, read_picture
from tests.support.mutations import make_mutations

warnings.simplefilter("ignore")
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for format, content in make_mutations(int(sys.argv[1]), int(sys.argv[2])):
    answers = []
    for read, refusal in ((to_rgb, ValueError), (read_picture, PhotoError)):
        start = time.process_time()
        try:
            picture = read(content)
            assert picture.mode == "RGB", picture.mode
            answer = picture.size
        except refusal as error:
            assert len(str(error)) > 10, error
            answer = "refused"
        answers.append(answer)
        seconds = time.process_time() - start
        megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        print(json.dumps([format, answer, seconds, megabytes]))
    assert answers[0] == answers[1], answers
"""


@pytest.mark.slow
@pytest.mark.processes
def test_damaged_pictures_are_read_or_refused():
    command = [sys.executable, "-c", READ_ALL, str(COUNT), str(SEED)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(rows) == 2 * COUNT
    assert max(seconds for _, _, seconds, _ in rows) < MAX_SECONDS
    assert rows[-1][-1] < MAX_MEGABYTES
    # The damage is neither too heavy nor too light.
    refused = {format for format, answer, *_ in rows if answer == "refused"}
    read = {format for format, answer, *_ in rows if answer != "refused"}
    assert len(refused) >= 14 and len(read) >= 14
