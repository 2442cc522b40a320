// Aligns faces to UTKFace's framing, as image_processing_agegender.py does. Points and factors are complex numbers,
// [real, imaginary].

import {image_processing_agegender} from "./settings.js";
import {BICUBIC, HAMMING, Pixels, resize, transform} from "./resize.js";

const {UTKFACE_TEMPLATE, MIN_CORRELATION} = image_processing_agegender;

export const add = ([a, b], [c, d]) => [a + c, b + d];
export const subtract = ([a, b], [c, d]) => [a - c, b - d];
export const multiply = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
export const scale = ([a, b], factor) => [a * factor, b * factor];
export const invert = ([a, b]) => scale([a, -b], 1 / (a * a + b * b));
export const average = (points) => scale(points.reduce(add), 1 / points.length);

/** Crops a face with the position, scale and rotation of faces in UTKFace. */
export function alignFace(image, landmarks, size) {
  return warpFace(image, ...fitToTemplate(landmarks), size);
}

/** Returns the square in which the point z of the image lies at (factor * z + shift) * size. */
export function warpFace(image, factor, shift, size, filter = BICUBIC) {
  // The inverse: the pixel w of the crop shows the point turn * w + origin of the image.
  const turn = invert(scale(factor, size)), origin = scale(multiply(shift, invert(factor)), -1);
  const corners = [[0, 0], [size, 0], [0, size], [size, size]].map((corner) => add(multiply(corner, turn), origin));
  // A face larger than its crop is reduced first, because the transform does not average over pixels.
  const shrink = Math.max(1, Math.hypot(...turn));
  const [left, top, right, bottom] = computeBounds(corners, 2 * shrink, image);
  let region = image.crop(left, top, right, bottom);
  if (shrink > 1) {
    const size = [region.width, region.height].map((side) => Math.ceil(side / shrink));
    region = resize(region, size, HAMMING, 2);
  } else {
    region = new Pixels(region.width, region.height, region.readRows(0, region.height));
  }
  const scaleX = region.width / (right - left), scaleY = region.height / (bottom - top);
  const xRow = [turn[0] * scaleX, -turn[1] * scaleX, (origin[0] - left) * scaleX];
  const yRow = [turn[1] * scaleY, turn[0] * scaleY, (origin[1] - top) * scaleY];
  return transform(region, [...xRow, ...yRow], size, filter);
}

/** Returns the factor and shift that map landmarks to the template: the least-squares similarity transform. */
export function fitToTemplate(landmarks) {
  const middle = average(landmarks), templateMiddle = average(UTKFACE_TEMPLATE);
  const points = landmarks.map((point) => subtract(point, middle));
  const template = UTKFACE_TEMPLATE.map((point) => subtract(point, templateMiddle));
  const product = points.map(([x, y], index) => multiply([x, -y], template[index])).reduce(add);
  const spread = Math.hypot(...points.flat()), templateSpread = Math.hypot(...template.flat());
  if (!(spread >= 1 && Math.hypot(...product) >= MIN_CORRELATION * spread * templateSpread)) {
    throw new RangeError("The landmarks do not have the shape of a face.");
  }
  const factor = scale(product, 1 / spread ** 2);
  return [factor, subtract(templateMiddle, multiply(factor, middle))];
}

/** Returns left, top, right and bottom of the part of the image around points. */
function computeBounds(corners, margin, {width, height}) {
  const [x, y] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
  const left = Math.floor(Math.min(...x) - margin), right = Math.ceil(Math.max(...x) + margin);
  const top = Math.floor(Math.min(...y) - margin), bottom = Math.ceil(Math.max(...y) + margin);
  if (left >= width || top >= height || right <= 0 || bottom <= 0) throw new RangeError("The face lies outside the image.");
  return [Math.max(left, 0), Math.max(top, 0), Math.min(right, width), Math.min(bottom, height)];
}
