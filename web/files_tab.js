// The tab for many photos, as space/files_tab.py builds it: a table that grows with each photo.

import {face_cards, files_tab, model, wording} from "./settings.js";
import * as files from "./components/files.js";
import {expandArchives, Note} from "./archives.js";
import {estimate} from "./client.js";
import {mount} from "./component.js";
import {describeAtLeast, makeLink, toCanvas} from "./face_cards.js";
import {openPicture} from "./reading.js";
import {makeFaceRows, makeUnreadableRow, toCsv} from "./tables.js";
import {describeCounts, describeGender, describeInterval, describeProgress} from "./wording.js";

const {CANCELLED, NO_FACE, SECONDS_BETWEEN_UPDATES, THUMBNAIL_SIDE} = files_tab;
const age_thresholds = face_cards.AGE_THRESHOLDS.filter((age) => age < model.num_age_classes);
const find = (id) => document.getElementById(id);
let run = 0; // the number of the run that fills the table

async function fillTable(table, files) {
  const number = ++run, rows = [], failures = [], notes = [], faceless = [], found = [];
  const photos = await expandArchives(files);
  let shownAt = -Infinity;
  const show = () => (table.value = {
    groups: [failures, notes, faceless, found].map((lines) => [...lines]),
    download: makeLink("faces.csv", "text/csv", "Save as CSV", toCsv(rows)),
  });
  for (const [index, {name, read}] of photos.entries()) {
    try {
      const photo = await read(), faces = await estimate(photo, {return_crops: true, age_thresholds});
      if (number !== run) return;
      rows.push(...makeFaceRows(name, faces));
      found.push(...faces.map((face, place) => makeLine(name, face, faces.length > 1 ? place + 1 : null)));
      if (!faces.length) faceless.push({name, text: NO_FACE, image: await makeThumbnailOfFile(photo)});
    } catch (error) {
      const failed = !(error instanceof Note);
      rows.push(makeUnreadableRow(name, error));
      (failed ? failures : notes).push({name, text: error.message, failed});
    }
    if (number !== run) return;
    if (performance.now() - shownAt >= SECONDS_BETWEEN_UPDATES * 1000) {
      showProgress(index + 1, photos.length);
      show();
      shownAt = performance.now();
    }
  }
  const counts = [photos.length - notes.length, found.length, faceless.length, failures.length];
  find("files-summary").textContent = `${describeCounts(...counts)}.`;
  show();
  end();
}

/** Shows how many files are done, apart from the summary, which screen readers announce. */
function showProgress(done, total) {
  const [text, bar] = find("progress").children;
  find("progress").hidden = false;
  text.textContent = describeProgress(done, total);
  [bar.value, bar.max] = [done, total];
}

function end() {
  if (document.activeElement === find("cancel")) find("start").focus({preventScroll: true});
  find("cancel").disabled = true;
  find("progress").hidden = true;
}

function makeLine(name, face, number) {
  return {
    name,
    face: number,
    image: makeThumbnail(toCanvas(face.crop), face.crop.width, face.crop.height),
    age: face.age.toFixed(0),
    range: describeInterval(face.age_interval),
    at_least: describeAtLeast(face),
    gender: describeGender(face),
  };
}

/** Returns the middle of a picture, square and small, as a data: address. */
function makeThumbnail(picture, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), {width: THUMBNAIL_SIDE, height: THUMBNAIL_SIDE});
  const context = canvas.getContext("2d"), side = Math.min(width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (width - side) / 2, (height - side) / 2, side, side, 0, 0, THUMBNAIL_SIDE, THUMBNAIL_SIDE);
  return canvas.toDataURL("image/webp", 0.7);
}

async function makeThumbnailOfFile(file) {
  const {image, size} = await openPicture(file), thumbnail = makeThumbnail(image, ...size);
  URL.revokeObjectURL(image.src);
  return thumbnail;
}

/** Returns a function that takes files, as if they were chosen. */
export function buildFilesTab() {
  const names = {range_name: wording.RANGE, at_least_name: face_cards.AT_LEAST_NAME};
  const table = mount(find("table"), files, names), input = find("files");
  const enable = () => (find("start").disabled = !input.files.length);
  input.addEventListener("change", enable);
  find("start").addEventListener("click", () => {
    table.value = null;
    find("cancel").disabled = false;
    find("files-summary").textContent = "Reading the files…";
    fillTable(table, [...input.files]);
  });
  find("cancel").addEventListener("click", () => {
    run += 1;
    find("files-summary").textContent = CANCELLED;
    end();
  });
  return (files) => {
    input.files = files;
    enable();
  };
}
