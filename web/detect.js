// Detects faces in two passes: a port of face_detection.py, function by function, where the reasons stand.

import {face_detection} from "./settings.js";
import {add, average, fitToTemplate, invert, multiply, scale, subtract, warp} from "./align.js";
import {HAMMING, Pixels, resize} from "./resize.js";
import {runYunet} from "./yunet.js";

const {
  COARSE_PIXELS, CANDIDATE_THRESHOLD, SCORE_THRESHOLD, SECOND_PASS_SIDE, SECOND_PASS_MARGIN, CLEAR_SCORE, ROUGH_ANGLES,
  ROUGH_SIDE, ROUGH_SCORE, TURNED_SCORE, MIN_LEAD, SAME_ANGLE, MIN_SIDE, MAX_OVERLAP,
} = face_detection;

/** Detects faces; each is {box: [xmin, ymin, xmax, ymax], landmarks: five [x, y], score}, in pixels of the image. */
export class FaceDetector {
  constructor(network, {max_upscale, max_pixels, search_turned}) {
    Object.assign(this, {network, maxUpscale: max_upscale, maxPixels: max_pixels, searchTurned: search_turned});
  }

  /** Returns the faces in a photo from left to right. */
  async detect(image, threshold = SCORE_THRESHOLD) {
    if (Math.min(image.width, image.height) < MIN_SIDE) return [];
    const copies = [];
    for (const size of this.computeSizes(image.width, image.height)) {
      copies.push(resize(copies.at(-1) ?? image, size, HAMMING, 2));
    }
    const faces = await this.search(image, copies, threshold);
    if (this.searchTurned && !faces.some((face) => Math.abs(computeAngle(face.landmarks)) <= 45)) {
      for (const quarters of [1, 3, 2]) {
        const smaller = copies.length > 1 ? copies.slice(1) : copies;
        faces.push(...(await this.search(image, smaller, threshold, quarters, [...faces])));
      }
    }
    return faces.sort((one, other) => one.box[0] + one.box[2] - other.box[0] - other.box[2]);
  }

  /** Returns the faces, without known ones, that are seen in copies of the image turned anticlockwise by quarters. */
  async search(image, copies, threshold, quarters = 0, known = []) {
    const turn = [[1, 0], [0, 1], [-1, 0], [0, -1]][quarters], middle = [image.width / 2, image.height / 2];
    const turnedMiddle = quarters % 2 ? [middle[1], middle[0]] : middle;
    const candidates = [];
    for (const copy of copies) {
      const turned = rotate(copy, quarters);
      const scales = [(2 * turnedMiddle[0]) / turned.width, (2 * turnedMiddle[1]) / turned.height];
      for (const row of await this.run(turned)) {
        const scaled = row.map((value, index) => (index < 14 ? value * scales[index % 2] : value));
        candidates.push(toFace(scaled, turn, subtract(middle, multiply(turn, turnedMiddle)), image));
      }
    }
    const checked = [];
    for (const face of suppressOverlaps(candidates, known)) checked.push(await this.checkCandidate(image, face));
    return suppressOverlaps(checked, known).filter((face) => face.score >= threshold);
  }

  /** Runs the second pass on a candidate and returns it with new landmarks and score, or null if there is no face. */
  async checkCandidate(image, candidate) {
    let found = await this.look(image, candidate.landmarks);
    if (found) {
      found = {...found, box: candidate.box};
      if (found.score >= CLEAR_SCORE) return found;
    }
    let turned = null;
    for (const angle of ROUGH_ANGLES) {
      const look = await this.look(image, candidate.landmarks, angle, ROUGH_SIDE);
      if (look && look.score > (turned?.score ?? -1)) turned = look;
    }
    if (!turned || turned.score < ROUGH_SCORE) return found;
    const foundScore = found?.score ?? 0;
    if (foundScore >= TURNED_SCORE && compareAngles(found, turned) < SAME_ANGLE) return found;
    for (let time = 0; time < 2; time++) turned = (await this.look(image, turned.landmarks)) ?? turned;
    if (turned.score >= Math.max(TURNED_SCORE, foundScore + MIN_LEAD)) return turned;
    const hasLead = foundScore >= turned.score + MIN_LEAD;
    return hasLead || (found && compareAngles(found, turned) < 45) ? found : null;
  }

  /** Runs YuNet on a face alone, upright after its landmarks and then turned clockwise by an angle in degrees. */
  async look(image, landmarks, angle = 0, side = SECOND_PASS_SIDE) {
    let [factor, shift] = fitToTemplate(landmarks);
    const radians = (angle * Math.PI) / 180, turn = [Math.cos(radians), Math.sin(radians)], middle = [0.5, 0.5];
    shift = add(multiply(subtract(shift, middle), turn), middle);
    const width = 1 + 2 * SECOND_PASS_MARGIN;
    factor = scale(multiply(factor, turn), 1 / width);
    shift = scale(add(shift, [SECOND_PASS_MARGIN, SECOND_PASS_MARGIN]), 1 / width);
    const rows = (await this.run(warp(image, factor, shift, side))).filter(([x, y, width, height]) =>
      [x + width / 2, y + height / 2].every((centre) => Math.abs(centre / side - 0.5) < 0.25)); // without neighbours
    if (!rows.length) return null;
    const best = rows.reduce((one, other) => (other[14] > one[14] ? other : one));
    return toFace(best, invert(scale(factor, side)), scale(multiply(shift, invert(factor)), -1), image);
  }

  /** Returns the sizes [width, height] at which the first pass searches an image of this size, largest first. */
  computeSizes(width, height) {
    const area = width * height;
    const largest = Math.min(this.maxUpscale, Math.sqrt(this.maxPixels / area));
    const finest = Math.max(largest, Math.sqrt(COARSE_PIXELS.at(-1) / area));
    const factors = [finest];
    for (const pixels of COARSE_PIXELS) {
      const factor = Math.sqrt(pixels / area);
      if (factor < 0.75 * factors.at(-1)) factors.push(factor);
    }
    return factors.map((factor) => [width, height].map((side) => Math.max(1, Math.round(side * factor))));
  }

  run(image) {
    return runYunet(this.network, image, CANDIDATE_THRESHOLD);
  }
}

/** Turns an image anticlockwise by quarters. */
function rotate(image, quarters) {
  if (!quarters) return image;
  const {width, height} = image, turned = quarters % 2 ? new Pixels(height, width) : new Pixels(width, height);
  const from = new Uint32Array(image.data.buffer), to = new Uint32Array(turned.data.buffer); // a pixel each
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [column, line] = [[y, width - 1 - x], [width - 1 - x, height - 1 - y], [height - 1 - y, x]][quarters - 1];
      to[line * turned.width + column] = from[y * width + x];
    }
  }
  return turned;
}

/** Converts a row of YuNet whose point w lies at turn * w + origin of the image; null if it is no face in the image. */
function toFace(row, turn, origin, {width, height}) {
  const [xmin, ymin, boxWidth, boxHeight] = row;
  const middle = add(multiply(turn, [xmin + boxWidth / 2, ymin + boxHeight / 2]), origin);
  const xHalf = Math.hypot(turn[0] * boxWidth, turn[1] * boxHeight) / 2;
  const yHalf = Math.hypot(turn[1] * boxWidth, turn[0] * boxHeight) / 2;
  const landmarks = [0, 1, 2, 3, 4].map((index) => add(multiply(turn, row.slice(4 + 2 * index, 6 + 2 * index)), origin));
  const sides = [middle[0] - xHalf, middle[1] - yHalf, middle[0] + xHalf, middle[1] + yHalf];
  const box = sides.map((side, index) => Math.max(0, Math.min(side, index % 2 ? height : width)));
  const [x, y] = average(landmarks);
  if (box[0] >= box[2] || box[1] >= box[3] || !(x >= 0 && y >= 0 && x <= width && y <= height)) return null;
  try {
    fitToTemplate(landmarks);
  } catch {
    return null;
  }
  return {box, landmarks, score: row[14]};
}

/** Returns the angle in degrees, -180 to 180, by which a face is turned anticlockwise. */
function computeAngle(landmarks) {
  const [[real, imaginary]] = fitToTemplate(landmarks);
  return (Math.atan2(imaginary, real) * 180) / Math.PI;
}

/** Returns the angle between two faces, 0 to 180 degrees. */
function compareAngles(first, second) {
  const difference = computeAngle(first.landmarks) - computeAngle(second.landmarks);
  return Math.abs(((difference + 540) % 360) - 180);
}

function isApart(face, others) {
  return others.every((other) => computeOverlap(face.box, other.box) < MAX_OVERLAP);
}

/** Keeps the best of overlapping faces, without those that overlap a known one. */
function suppressOverlaps(faces, known) {
  const kept = [];
  for (const face of faces.filter(Boolean).sort((one, other) => other.score - one.score)) {
    if (isApart(face, kept)) kept.push(face);
  }
  return kept.filter((face) => isApart(face, known));
}

/** Returns the intersection of two boxes relative to the smaller one. */
function computeOverlap(first, second) {
  const width = Math.min(first[2], second[2]) - Math.max(first[0], second[0]);
  const height = Math.min(first[3], second[3]) - Math.max(first[1], second[1]);
  const areas = [first, second].map((box) => (box[2] - box[0]) * (box[3] - box[1]));
  return (Math.max(width, 0) * Math.max(height, 0)) / Math.min(...areas);
}
