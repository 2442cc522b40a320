// Runs YuNet as OpenCV's FaceDetectorYN does: pads the image, decodes the network's outputs and drops boxes that overlap.

const STRIDES = [8, 16, 32], MAX_OVERLAP = 0.3, MOST = 5000; // those of OpenCV
const round = Math.fround; // OpenCV computes with 32 bits

/**
 * Detects faces.
 *
 * @param network What runs the network on a tensor (see network.js).
 * @param {Pixels} image
 * @param threshold Minimum score.
 * @returns Rows of xmin, ymin, width, height, five landmarks (x, y) and score, best first.
 */
export async function runYunet(network, image, threshold) {
  const [width, height] = [image.width, image.height].map((side) => 32 * Math.ceil(side / 32));
  const outputs = await network.run({input: [makeInput(image, width, height), [1, 3, height, width]]});
  const rows = STRIDES.flatMap((stride) => decode(outputs, stride, width / stride, threshold));
  return rows.length > 1 ? suppress(rows, threshold) : rows;
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
    const score = round(Math.sqrt(round(limit(value) * limit(objects[index]))));
    if (score < threshold) return;
    const column = index % columns, line = Math.trunc(index / columns);
    const [x, y, width, height] = boxes.subarray(4 * index, 4 * index + 4);
    const sides = [width, height].map((side) => round(Math.exp(side)) * stride);
    const landmarks = points.subarray(10 * index, 10 * index + 10);
    rows.push([
      round(round(column + x) * stride - sides[0] / 2),
      round(round(line + y) * stride - sides[1] / 2),
      ...sides,
      ...Array.from(landmarks, (value, axis) => round(value + (axis % 2 ? line : column)) * stride),
      score,
    ]);
  });
  return rows;
}

/** Keeps the best of boxes that overlap; OpenCV compares boxes of whole pixels. */
function suppress(rows, threshold) {
  const kept = [];
  for (const row of rows.filter((row) => row[14] > threshold).sort((one, other) => other[14] - one[14]).slice(0, MOST)) {
    if (kept.every((better) => computeOverlap(row, better) <= MAX_OVERLAP)) kept.push(row);
  }
  return kept;
}

/** Returns the intersection over union. */
function computeOverlap(first, second) {
  const [a, b] = [first, second].map((row) => row.slice(0, 4).map(Math.trunc));
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  const common = Math.max(0, width) * Math.max(0, height), union = a[2] * a[3] + b[2] * b[3] - common;
  return union > 0 ? common / union : 0;
}
