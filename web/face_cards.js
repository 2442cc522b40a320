// The answer to a photo, as space/face_cards.py makes it: the photo with boxes, and a card for each face.

import {face_cards} from "./settings.js";
import {drawFaces} from "./drawing.js";
import {makeFaceRows, toCsv} from "./tables.js";
import {describeGender, describeInterval, describeProbability, nameFace} from "./wording.js";

const {CROWD, THRESHOLD, PLOT_WIDTH, PLOT_HEIGHT, PLOT_FOOT, TICKS} = face_cards;

/** Returns the value for face_cards.html. Pictures are blob: addresses; revoke them with `forget`. */
export async function makeAnswer(image, faces) {
  const numbers = faces.map(({crop, ...face}) => face), canvas = drawFaces(image, faces);
  const links = [
    makeLink("faces.csv", "text/csv", "Save as CSV", toCsv(makeFaceRows("photo", faces))),
    makeLink("faces.json", "application/json", "Save as JSON", JSON.stringify(numbers, null, 2)),
  ];
  const size = [image.naturalWidth, image.naturalHeight];
  return {
    picture: await save(canvas),
    width: canvas.width,
    height: canvas.height,
    cards: await Promise.all(faces.map((face, index) => makeCard(index + 1, face, ...size))),
    is_crowd: faces.length > CROWD,
    last_age: faces.length ? Object.keys(faces[0].age_at_least).length - 1 : null,
    links: faces.length ? links.join("") : "",
  };
}

/** Frees the pictures of an answer. */
export function forget(answer) {
  for (const {url} of answer ? [answer.picture, ...answer.cards.map(({crop}) => crop)] : []) URL.revokeObjectURL(url);
}

async function makeCard(number, face, width, height) {
  const {xmin, ymin, xmax, ymax} = face.box;
  const sides = {left: xmin / width, top: ymin / height, right: 1 - xmax / width, bottom: 1 - ymax / height};
  return {
    number,
    name: nameFace(number, face),
    place: Object.entries(sides).map(([side, share]) => `${side}: ${(100 * share).toFixed(2)}%`).join("; "),
    crop: await save(toCanvas(face.crop)),
    age: face.age.toFixed(0),
    range: describeInterval(face.age_interval),
    gender: describeGender(face),
    at_least: Object.values(face.age_at_least).map(describeProbability).join(","),
    plot: drawDistribution(face.age_distribution, ...face.age_interval),
  };
}

/** Returns the probability that a face is at least `THRESHOLD` years old; "" if the model has no such age. */
export function describeAtLeast({age_at_least}) {
  const probability = age_at_least?.[THRESHOLD];
  return probability === undefined ? "" : describeProbability(probability);
}

/** Draws pixels of the worker. */
export function toCanvas({width, height, data}) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

/** Returns a picture as JPEG, at a blob: address. */
async function save(canvas) {
  return {url: URL.createObjectURL(await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9)))};
}

/** Draws the distribution of the age as an SVG with a bar for each year, coloured from `low` to `high`. */
function drawDistribution(probabilities, low, high) {
  const width = PLOT_WIDTH / probabilities.length, top = Math.max(...probabilities);
  const bars = probabilities.map((probability, age) => {
    const height = (PLOT_HEIGHT * probability) / top;
    const kind = Math.round(low) <= age && age <= Math.round(high) ? "likely" : "all";
    const place = [age * width, PLOT_HEIGHT - height, width, height].map((value) => value.toFixed(2));
    return `<rect class='${kind}' x='${place[0]}' y='${place[1]}' width='${place[2]}' height='${place[3]}'/>`;
  });
  const ticks = TICKS.filter(([age]) => age < probabilities.length).map(([age, tick, anchor]) => {
    const place = `x='${((age + 0.5) * width).toFixed(0)}' y='${PLOT_HEIGHT + PLOT_FOOT - 3}'`;
    return `<text ${place} text-anchor='${anchor}'>${tick}</text>`;
  });
  const label = `Probability of each age; 90 % range ${low.toFixed(0)} to ${high.toFixed(0)} years`;
  const box = `0 0 ${PLOT_WIDTH} ${PLOT_HEIGHT + PLOT_FOOT}`;
  return `<svg viewBox='${box}' role='img' aria-label='${label}'>${bars.join("")}${ticks.join("")}</svg>`;
}

/** Makes a link that holds a text and saves it as a file. */
export function makeLink(name, kind, text, content) {
  return `<a download="${name}" href="data:${kind};charset=utf-8,${encodeURIComponent(content)}">${text}</a>`;
}
