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

/** Answers a photo, unless the visitor has chosen another one meanwhile. */
async function answer(faces, blob, takesWhole = false) {
  const number = ++asked, summary = find("summary"), whole = find("whole");
  const image = Object.assign(new Image(), {src: URL.createObjectURL(blob)});
  find("answer").hidden = false;
  find("answer").classList.add("pending");
  whole.hidden = true;
  scrollToAnswer();
  let sentence = "", value = null, canBeWhole = false;
  try {
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

export function buildPhotoTab() {
  const faces = mount(find("faces"), cards), input = find("photo-file"), drop = find("drop");
  const choose = (blob) => {
    if (!blob) return;
    show(blob);
    answer(faces, blob);
  };
  const value = Object.values(EXAMPLES).map((caption, index) => ({file: {url: `examples/${index}.jpg`}, caption}));
  mount(find("examples"), examples, {value});
  find("examples").addEventListener("click", async ({target}) => {
    const index = [...find("examples").querySelectorAll("button")].indexOf(target.closest("button"));
    if (index >= 0) choose(await (await fetch(value[index].file.url)).blob());
  });
  input.addEventListener("change", () => {
    choose(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") choose(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", ({clipboardData}) => choose(clipboardData.files[0]));
  find("whole").addEventListener("click", () => answer(faces, shown, true));
  find("remove").addEventListener("click", () => {
    asked += 1;
    show(null);
    forget(faces.value);
    faces.value = null;
    find("answer").hidden = true;
  });
}
