// Draws boxes and labels of faces into a picture, as photos/drawing.py does.

import {drawing} from "./settings.js";
import {makeLabel} from "./wording.js";

const {MAX_SHOWN_PIXELS, MAX_SHOWN_SIDE, SMALLEST_TEXT, LARGEST_TEXT, TEXT_PER_BOX, WIDEST_LABEL, MOST_LABELS} = drawing;
export const BOX_COLOUR = `rgb(${drawing.BOX_COLOUR})`;

/**
 * Draws a box and a label for each face. Where there is no room, the label is only the number.
 *
 * @param image An `img` element.
 * @param faces Dicts of the pipeline, with boxes in pixels of the file.
 * @returns A canvas, scaled down if the picture is large.
 */
export function drawFaces(image, faces) {
  const {naturalWidth: width, naturalHeight: height} = image;
  const factor = Math.min(1, Math.sqrt(MAX_SHOWN_PIXELS / (width * height)), MAX_SHOWN_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [width, height].map((side) => Math.max(1, Math.round(side * factor)));
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const scale = Math.sqrt(canvas.width * canvas.height), line = Math.max(2, Math.round(scale / 320));
  Object.assign(context, {strokeStyle: BOX_COLOUR, lineWidth: line, textBaseline: "middle"});
  const boxes = faces.map(({box}) => [box.xmin, box.ymin, box.xmax, box.ymax].map((side) => side * factor));
  for (const [left, top, right, bottom] of boxes) {
    context.strokeRect(left + line / 2, top + line / 2, right - left - line, bottom - top - line);
  }
  // Labels come after all boxes, so no box crosses a label.
  faces.forEach((face, index) => {
    const box = boxes[index], width = box[2] - box[0];
    const size = Math.max(Math.min(Math.max(width * TEXT_PER_BOX, scale * SMALLEST_TEXT), scale * LARGEST_TEXT), 11);
    context.font = `${size}px ui-sans-serif, system-ui, sans-serif`;
    let text = makeLabel(index + 1, face);
    const isTooWide = context.measureText(text).width > WIDEST_LABEL * width;
    if (faces.length > MOST_LABELS || (faces.length > 1 && isTooWide)) text = String(index + 1);
    drawLabel(context, box, text, size);
  });
  return canvas;
}

/** Writes a label above a box, or below it where there is no room above; always inside the picture. */
function drawLabel(context, [xmin, ymin, , ymax], text, size) {
  const {width, height} = context.canvas, pad = size / 4;
  const labelWidth = context.measureText(text).width + 2 * pad, labelHeight = size + 2 * pad;
  const left = Math.max(0, Math.min(xmin, width - labelWidth));
  const top = ymin >= labelHeight ? ymin - labelHeight : Math.max(0, Math.min(ymax, height - labelHeight));
  context.fillStyle = BOX_COLOUR;
  context.fillRect(left, top, labelWidth, labelHeight);
  context.fillStyle = "white";
  context.fillText(text, left + pad, top + labelHeight / 2);
}
