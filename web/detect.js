// Detects faces in two passes: a port of face_detection.py, function by function, where the reasons stand.

import {face_detection} from "./settings.js";
import {add, average, fitToTemplate, invert, multiply, scale, subtract, warpFace} from "./align.js";
import {BILINEAR, HAMMING, Pixels, resize as resizeWith} from "./resize.js";
import {runYunet} from "./yunet.js";

const {
  COARSE_PIXELS, CANDIDATE_THRESHOLD, HINT_THRESHOLD, SMALL_SIDE, TILE_SIDE, SCORE_THRESHOLD, SECOND_PASS_SIDE,
  SECOND_PASS_MARGIN, CLEAR_SCORE, ROUGH_ANGLES, ROUGH_SIDE, ROUGH_SCORE, TURNED_SCORE, MIN_LEAD, SAME_ANGLE, MAX_CHANGE,
  MIN_SIDE, MAX_OVERLAP,
} = face_detection;

/** Detects faces; each is {box: [xmin, ymin, xmax, ymax], landmarks: five [x, y], score}, in pixels of the image. */
export class FaceDetector {
  constructor(network, {max_upscale, max_pixels, search_turned}) {
    Object.assign(this, {network, maxUpscale: max_upscale, maxPixels: max_pixels, searchTurned: search_turned});
  }

  /** Returns the faces in a photo from left to right. */
  async detect(image, threshold = SCORE_THRESHOLD) {
    if (Math.min(image.width, image.height) < MIN_SIDE) return [];
    const sizes = this.computeSizes(image.width, image.height), copies = [];
    for (const size of sizes.length > 1 ? sizes.slice(1) : sizes) copies.push(resize(copies.at(-1) ?? image, size));
    const candidates = await this.findCandidates(image, copies[0], {threshold: HINT_THRESHOLD});
    for (const copy of copies.slice(1)) candidates.push(...(await this.findCandidates(image, copy)));
    const hints = candidates.filter(({score}) => score < CANDIDATE_THRESHOLD);
    const likely = candidates.filter(({score}) => score >= CANDIDATE_THRESHOLD);
    const faces = await this.checkCandidates(image, likely, threshold);
    if (sizes.length > 1) {
      const zoom = sizes[0][0] / image.width, fine = [];
      for (const box of chooseBoxes(image, zoom, hints, faces)) {
        const size = [box[2] - box[0], box[3] - box[1]].map((side) => Math.round(zoom * side));
        fine.push(...(await this.findCandidates(image, resize(image, size, box), {box})));
      }
      faces.push(...(await this.checkCandidates(image, fine, threshold, faces)));
    }
    if (this.searchTurned && !faces.some(isUpright)) {
      for (const quarters of [1, 3, 2]) {
        const found = [];
        for (const copy of copies.slice(-2)) found.push(...(await this.findCandidates(image, copy, {quarters})));
        faces.push(...(await this.checkCandidates(image, found, Math.max(threshold, TURNED_SCORE), faces)));
      }
    }
    return faces.sort((one, other) => one.box[0] + one.box[2] - other.box[0] - other.box[2]);
  }

  /** Returns what the first pass finds in a copy of the image or of a box of it, turned anticlockwise by quarters. */
  async findCandidates(image, copy, {box, quarters = 0, threshold = CANDIDATE_THRESHOLD} = {}) {
    const [left, top, right, bottom] = box ?? [0, 0, image.width, image.height];
    const turn = [[1, 0], [0, 1], [-1, 0], [0, -1]][quarters];
    const middle = [(left + right) / 2, (top + bottom) / 2], half = [(right - left) / 2, (bottom - top) / 2];
    // The middle of the turned box lies at turnedHalf there and at middle in the image.
    const turnedHalf = quarters % 2 ? [half[1], half[0]] : half, turned = rotate(copy, quarters);
    const scales = [(2 * turnedHalf[0]) / turned.width, (2 * turnedHalf[1]) / turned.height];
    const origin = subtract(middle, multiply(turn, turnedHalf)), rows = await this.run(turned, threshold);
    const scaled = rows.map((row) => row.map((value, index) => (index < 14 ? value * scales[index % 2] : value)));
    return scaled.map((row) => toFace(row, turn, origin, image)).filter(Boolean);
  }

  /** Runs the second pass and returns the faces, without known ones. */
  async checkCandidates(image, candidates, threshold, known = []) {
    const faces = [];
    for (const face of suppressOverlaps(candidates, known)) faces.push(await this.checkCandidate(image, face));
    return suppressOverlaps(faces, known).filter(({score}) => score >= threshold);
  }

  /** Runs the second pass on a candidate and returns it with new landmarks and score, or null if there is no face. */
  async checkCandidate(image, candidate) {
    let found = await this.look(image, candidate.landmarks);
    if (found && Math.hypot(...subtract(compare(candidate, found), [1, 0])) > MAX_CHANGE) {
      found = {...((await this.look(image, found.landmarks)) ?? found), score: found.score};
    }
    if (found) found = {...found, box: candidate.box};
    if (found?.score >= CLEAR_SCORE) return found;
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
    return hasLead || (found && compareAngles(found, turned) < Math.PI / 4) ? found : null;
  }

  /** Runs YuNet on a face alone, upright after its landmarks and then turned clockwise by an angle in degrees. */
  async look(image, landmarks, angle = 0, side = SECOND_PASS_SIDE) {
    let [factor, shift] = fitToTemplate(landmarks);
    const radians = (angle * Math.PI) / 180, turn = [Math.cos(radians), Math.sin(radians)], middle = [0.5, 0.5];
    shift = add(multiply(subtract(shift, middle), turn), middle);
    const width = 1 + 2 * SECOND_PASS_MARGIN;
    factor = scale(multiply(factor, turn), 1 / width);
    shift = scale(add(shift, [SECOND_PASS_MARGIN, SECOND_PASS_MARGIN]), 1 / width);
    const rows = await this.run(warpFace(image, factor, shift, side, BILINEAR));
    const best = rows.find(([x, y, width, height]) =>
      [x + width / 2, y + height / 2].every((centre) => Math.abs(centre / side - 0.5) < 0.25)); // no neighbour
    return best ? toFace(best, invert(scale(factor, side)), scale(multiply(shift, invert(factor)), -1), image) : null;
  }

  /** Returns the sizes [width, height] at which the first pass searches an image of this size, largest first. */
  computeSizes(width, height) {
    const area = width * height, least = COARSE_PIXELS.at(-1);
    const finest = Math.max(Math.min(this.maxUpscale, Math.sqrt(this.maxPixels / area)), Math.sqrt(least / area));
    const factors = [finest];
    for (const pixels of [(area * finest ** 2) / 4, ...COARSE_PIXELS]) {
      const factor = Math.sqrt(Math.max(pixels, least) / area);
      if (factor < 0.75 * factors.at(-1)) factors.push(factor); // similar sizes find the same faces
    }
    return factors.map((factor) => [width, height].map((side) => Math.max(1, Math.round(side * factor))));
  }

  run(image, threshold = CANDIDATE_THRESHOLD) {
    return runYunet(this.network, image, threshold);
  }
}

/** Resizes an image, or a box of it. Each pixel is a mean, so that small faces do not alias. */
function resize(image, size, box) {
  return resizeWith(image, size, HAMMING, 1, box);
}

/** Returns the parts of an image to search at its largest size, to which `zoom` leads, given what half of it showed. */
function chooseBoxes({width, height}, zoom, hints, faces) {
  const small = (2 * SMALL_SIDE) / zoom, half = TILE_SIDE / zoom / 2;
  if (!faces.length || Math.min(...faces.map(findSide)) < small) return [[0, 0, width, height]];
  const boxes = [];
  for (const face of hints.sort((one, other) => other.score - one.score)) {
    const [xmin, ymin, xmax, ymax] = face.box;
    const seen = boxes.some((box) => box[0] <= xmin && box[1] <= ymin && box[2] >= xmax && box[3] >= ymax);
    if (!seen && findSide(face) < 2 * small && isApart(face, faces)) {
      const x = (xmin + xmax) / 2, y = (ymin + ymax) / 2;
      boxes.push([Math.max(x - half, 0), Math.max(y - half, 0), Math.min(x + half, width), Math.min(y + half, height)]);
    }
  }
  return boxes.length * (2 * half) ** 2 < width * height ? boxes : [[0, 0, width, height]];
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

/** Returns the smaller side of the box of a face. */
function findSide({box}) {
  return Math.min(box[2] - box[0], box[3] - box[1]);
}

/** Returns whether a face is turned by at most 45 degrees. */
function isUpright({landmarks}) {
  const [[real, imaginary]] = fitToTemplate(landmarks);
  return Math.abs(imaginary) <= real;
}

/** Returns the factor that turns and scales the second face as the first one is. */
function compare(first, second) {
  return multiply(fitToTemplate(second.landmarks)[0], invert(fitToTemplate(first.landmarks)[0]));
}

/** Returns the angle between two faces in radians, 0 to pi. */
function compareAngles(first, second) {
  const [real, imaginary] = compare(first, second);
  return Math.abs(Math.atan2(imaginary, real));
}

/** Returns whether a face overlaps none of the others. */
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
