// The tab for a camera, as space/camera_tab.py builds it; the frames go to the worker.

import {camera_tab, tracking, wording} from "./settings.js";
import * as camera from "./components/camera.js";
import {estimate} from "./client.js";
import {mount} from "./component.js";
import {BOX_COLOUR} from "./drawing.js";
import {FaceTracker} from "./tracking.js";
import {describeGender, describeInterval, makeLabel} from "./wording.js";

const {FRAME_SIDE, MAX_FRAME_RATE, TIME_LIMIT, ANSWER_TIMEOUT} = camera_tab, {SIDES} = tracking;
const {RANGE} = wording;

function describeTrack(face) {
  const {track, age, age_interval} = face;
  return {
    box: SIDES.map((side) => face.box[side]),
    label: makeLabel(track, face),
    line: `${track}: about ${age.toFixed(0)} years, ${RANGE} ${describeInterval(age_interval)}, ${describeGender(face)}`,
  };
}

/** Returns the content of a data: address in base64. */
function decodeData(address) {
  const [head, content] = address.split(",");
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  return new Blob([bytes], {type: head.slice(5).split(";")[0]});
}

export function buildCameraTab() {
  const tracker = new FaceTracker();
  const limits = {pause: 1 / MAX_FRAME_RATE, time_limit: TIME_LIMIT, answer_timeout: ANSWER_TIMEOUT};
  const props = {side: FRAME_SIDE, colour: BOX_COLOUR, ...limits};
  const live = mount(document.getElementById("live"), camera, props, async () => {
    const {number, frame} = live.value;
    try {
      const faces = tracker.update(await estimate(decodeData(frame), {quick: true}));
      live.value = {number, faces: faces.map(describeTrack)};
    } catch ({message}) {
      live.value = {number, failed: message};
    }
  });
}
