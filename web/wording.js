// Words for faces and for counts of them: those of photos/wording.py.

import {wording} from "./settings.js";

const {SURE_GENDER} = wording;

const percent = (share) => `${(100 * share).toFixed(0)}%`;
const group = (count) => count.toLocaleString("en");
const plural = (count, noun) => `${group(count)} ${noun}${count === 1 ? "" : "s"}`;

export const nameGender = (face) => (face.gender_score >= SURE_GENDER ? face.gender : "unsure");

export function describeCounts(pictures, faces, withoutFace, unreadable) {
  const text = `${plural(pictures, "picture")}: ${plural(faces, "face")}`;
  const parts = [withoutFace && `, ${group(withoutFace)} without one`, unreadable && `, ${group(unreadable)} unreadable`];
  return text + parts.filter(Boolean).join("");
}

export const describeProgress = (done, total) => `${group(done)} of ${plural(total, "file")}`;

export function describeGender(face) {
  const gender = `${face.gender}, ${percent(face.gender_score)}`;
  return face.gender_score >= SURE_GENDER ? gender : `unsure (${gender})`;
}

export const describeInterval = ([low, high]) => `${low.toFixed(0)}–${high.toFixed(0)}`;

export const nameFace = (number, face) => (face.detection_score === null ? "Whole picture" : `Face ${number}`);

export function makeLabel(number, face) {
  return `${face.detection_score === null ? "whole picture" : number}: ${nameGender(face)}, ${face.age.toFixed(0)}`;
}
