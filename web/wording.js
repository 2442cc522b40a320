// Words for faces and for counts of them: those of photos/wording.py.

import {image_processing_agegender} from "./settings.js";

const {SURE_GENDER, SURE_GENDER_OF_SMALL_CHILD, SMALL_CHILD_AGE} = image_processing_agegender;

const group = (count) => count.toLocaleString("en");
const plural = (count, noun) => `${group(count)} ${noun}${count === 1 ? "" : "s"}`;

const isGenderSure = ({age, gender_score}) =>
  gender_score >= (age < SMALL_CHILD_AGE ? SURE_GENDER_OF_SMALL_CHILD : SURE_GENDER);

export const nameGender = (face) => (isGenderSure(face) ? face.gender : "unsure");

export function describeCounts(pictures, faces, withoutFace, unreadable) {
  const text = `${plural(pictures, "picture")}: ${plural(faces, "face")}`;
  const parts = [withoutFace && `, ${group(withoutFace)} without one`, unreadable && `, ${group(unreadable)} unreadable`];
  return text + parts.filter(Boolean).join("");
}

export const describeProgress = (done, total) => `${group(done)} of ${plural(total, "file")}`;

/** Returns a probability that is never certain: `97 %`, `over 99 %` or `under 1 %`. */
export function describeProbability(probability) {
  const percent = `${(100 * probability).toFixed(0)} %`;
  return {"100 %": "over 99 %", "0 %": "under 1 %"}[percent] ?? percent;
}

export function describeGender(face) {
  const gender = `${face.gender}, ${describeProbability(face.gender_score)}`;
  return isGenderSure(face) ? gender : `unsure (${gender})`;
}

export const describeInterval = ([low, high]) => `${low.toFixed(0)}–${high.toFixed(0)}`;

export const nameFace = (number, face) => (face.detection_score === null ? "Whole picture" : `Face ${number}`);

export function makeLabel(number, face) {
  return `${face.detection_score === null ? "whole picture" : number}: ${nameGender(face)}, ${face.age.toFixed(0)}`;
}
