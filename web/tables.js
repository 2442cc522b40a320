// Makes rows of a table from faces, and CSV from rows, as photos/face_table.py does.

import {face_cards} from "./settings.js";

const {CSV_COLUMNS} = face_cards;

const roundAtLeast = ({age_at_least = {}}) =>
  Object.fromEntries(Object.entries(age_at_least).map(([age, share]) => [`age_at_least_${age}`, round(share, 4)]));

export function makeFaceRows(file, faces) {
  const rows = faces.map((face, index) => ({
    file,
    face: index + 1,
    age: round(face.age, 1),
    age_low: round(face.age_interval[0], 1),
    age_high: round(face.age_interval[1], 1),
    gender: face.gender,
    gender_score: round(face.gender_score, 4),
    ...face.box,
    detection_score: face.detection_score && round(face.detection_score, 4),
    ...roundAtLeast(face),
  }));
  return rows.length ? rows : [{file}];
}

export const makeUnreadableRow = (file, error) => ({file, error: error.message});

/** Rounds as Python shows it: 29.0 is no whole number. */
function round(value, digits) {
  const text = String(Number(value.toFixed(digits)));
  return text.includes(".") ? text : `${text}.0`;
}

export function toCsv(rows) {
  const makeCell = (row, column) => quote(column === "file" ? quoteFormula(row.file) : row[column] ?? "");
  const lines = rows.map((row) => CSV_COLUMNS.map((column) => makeCell(row, column)));
  return [CSV_COLUMNS, ...lines].map((cells) => `${cells.join(",")}\n`).join("");
}

const quote = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));

/** Puts an apostrophe before text that a spreadsheet would run as a formula. */
const quoteFormula = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
