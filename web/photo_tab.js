// The tab for one photo, as space/photo_tab.py builds it.

import {model, photo_tab} from "./settings.js";
import * as cards from "./components/face_cards.js";
import * as examples from "./components/examples.js";
import {estimate} from "./client.js";
import {mount} from "./component.js";
import {forget, makeAnswer} from "./face_cards.js";

const {EXAMPLES, NO_FACE, WHOLE} = photo_tab;
const find = (id) => document.getElementById(id);
let shown = null, asked = 0; // the photo that is shown, and the number of the last question

const countFaces = (count) =>
  count === 0 ? NO_FACE : count === 1 ? "1 face was found." : `${count} faces were found, numbered row by row.`;

/** Answers a photo, or one that is still to come, unless the visitor has chosen another one meanwhile. */
async function answer(faces, coming, takesWhole = false) {
  const number = ++asked, summary = find("summary"), whole = find("whole"), image = new Image();
  find("answer").hidden = false;
  find("answer").classList.add("pending");
  whole.hidden = true;
  scrollToAnswer();
  let sentence = "", value = null, canBeWhole = false;
  try {
    const blob = await coming;
    if (number !== asked) return;
    if (blob !== shown) show(blob);
    image.src = URL.createObjectURL(blob);
    const options = {detect_faces: !takesWhole, return_crops: true, return_age_distribution: true};
    options.age_thresholds = Array.from({length: model.num_age_classes}, (_, age) => age); // for the slider
    const found = await estimate(blob, options);
    await image.decode();
    value = await makeAnswer(image, found);
    sentence = takesWhole ? WHOLE : countFaces(found.length);
    canBeWhole = !found.length;
  } catch (error) {
    sentence = error.message;
  }
  URL.revokeObjectURL(image.src);
  if (number !== asked) return forget(value);
  forget(faces.value);
  faces.value = value;
  summary.textContent = sentence;
  whole.hidden = !canBeWhole;
  find("answer").classList.remove("pending");
  if (!value) show(null);
  scrollToAnswer();
}

/** On a phone the answer lies below the button that was pressed. */
function scrollToAnswer() {
  const {top} = find("answer").getBoundingClientRect();
  if (top < 0 || top > 0.4 * window.innerHeight) find("answer").scrollIntoView({behavior: "smooth"});
}

/** Shows the photo that was chosen, or none. */
function show(blob) {
  const preview = find("preview");
  URL.revokeObjectURL(preview.src);
  shown = blob;
  preview.hidden = !blob;
  find("remove").hidden = !blob;
  if (blob) preview.src = URL.createObjectURL(blob);
  else preview.removeAttribute("src");
}

async function loadExample(address) {
  const response = await fetch(address).catch(() => null);
  if (!response?.ok) throw new Error("This example cannot be loaded: try again when you are online.");
  return response.blob();
}

/** Returns a function that takes files: it answers the first. */
export function buildPhotoTab() {
  const faces = mount(find("faces"), cards), input = find("photo-file");
  const value = Object.values(EXAMPLES).map((caption, index) => ({file: {url: `examples/${index}.jpg`}, caption}));
  mount(find("examples"), examples, {value});
  find("examples").addEventListener("click", ({target}) => {
    const index = [...find("examples").querySelectorAll("button")].indexOf(target.closest("button"));
    if (index >= 0) answer(faces, loadExample(value[index].file.url));
  });
  input.addEventListener("change", () => {
    if (input.files.length) answer(faces, input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  find("whole").addEventListener("click", () => answer(faces, shown, true));
  find("remove").addEventListener("click", () => {
    asked += 1;
    show(null);
    forget(faces.value);
    faces.value = null;
    find("answer").hidden = true;
  });
  return ([file]) => answer(faces, file);
}
