// Runs YuNet as face_detection.py does: pads the image, decodes the network's outputs and drops boxes that overlap.

import {face_detection} from "./settings.js";

const {STRIDES, MAX_IOU} = face_detection;

/**
 * Detects faces.
 *
 * @param network What runs the network on a tensor (see network.js).
 * @param {Pixels} image
 * @param threshold Minimum score.
 * @returns Rows of xmin, ymin, width, height, five landmarks (x, y) and score, best first.
 */
export async function runYunet(network, image, threshold) {
  const [width, height] = [image.width, image.height].map((side) => STRIDES.at(-1) * Math.ceil(side / STRIDES.at(-1)));
  const outputs = await network.run({input: [makeInput(image, width, height), [1, 3, height, width]]});
  return keepBest(STRIDES.flatMap((stride) => decode(outputs, stride, width / stride, threshold)));
}

/** Returns blue, green and red, one after another, with zeros to the right and below. */
function makeInput(image, width, height) {
  const area = width * height, input = new Float32Array(3 * area);
  for (let y = 0; y < image.height; y++) {
    let from = 4 * y * image.width, to = y * width;
    for (let x = 0; x < image.width; x++, from += 4, to++) {
      input[to] = image.data[from + 2];
      input[to + area] = image.data[from + 1];
      input[to + 2 * area] = image.data[from];
    }
  }
  return input;
}

function decode(outputs, stride, columns, threshold) {
  const [classes, objects, boxes, points] = ["cls", "obj", "bbox", "kps"].map((name) => outputs[`${name}_${stride}`]);
  const limit = (score) => Math.max(0, Math.min(score, 1)), rows = [];
  classes.forEach((value, index) => {
    const score = Math.sqrt(limit(value) * limit(objects[index]));
    if (score < threshold) return;
    const place = [index % columns, Math.trunc(index / columns)], box = boxes.subarray(4 * index, 4 * index + 4);
    const sides = [box[2], box[3]].map((side) => Math.exp(side) * stride);
    const corner = place.map((start, axis) => (start + box[axis]) * stride - sides[axis] / 2);
    const landmarks = Array.from(points.subarray(10 * index, 10 * index + 10));
    rows.push([...corner, ...sides, ...landmarks.map((value, axis) => (value + place[axis % 2]) * stride), score]);
  });
  return rows;
}

/** Returns the rows, best first, without those whose box lies over a better one. */
function keepBest(rows) {
  const kept = [];
  for (const row of rows.sort((one, other) => other[14] - one[14])) {
    if (kept.every((better) => computeIou(row, better) <= MAX_IOU)) kept.push(row);
  }
  return kept;
}

/** Returns the intersection over union. */
function computeIou(first, second) {
  const [width, height] = [0, 1].map((axis) => {
    const end = Math.min(first[axis] + first[axis + 2], second[axis] + second[axis + 2]);
    return Math.max(0, end - Math.max(first[axis], second[axis]));
  });
  return (width * height) / (first[2] * first[3] + second[2] * second[3] - width * height);
}
