// Resizes and transforms pictures with the arithmetic of Pillow, to the last bit: other averages of pixels give other ages.
//
// A picture is {width, height, readRows(top, bottom), crop(left, top, right, bottom)}; its rows are RGBA bytes, of which A is
// ignored.

const PRECISION = 22, HALF = 1 << (PRECISION - 1); // bits of a weight behind the point, as Pillow has them
const STRIP = 256; // rows that are read at a time

/** A picture whose pixels are in memory. */
export class Pixels {
  constructor(width, height, data = new Uint8ClampedArray(4 * width * height)) {
    Object.assign(this, {width, height, data});
  }

  readRows(top, bottom) {
    return this.data.subarray(4 * this.width * top, 4 * this.width * bottom);
  }

  crop(left, top, right, bottom) {
    const part = new Pixels(right - left, bottom - top);
    for (let y = 0; y < part.height; y++) {
      const row = this.readRows(top + y, top + y + 1);
      part.data.set(row.subarray(4 * left, 4 * right), 4 * part.width * y);
    }
    return part;
  }
}

// Pillow's numbers of filters.
export const BILINEAR = 2, BICUBIC = 3, HAMMING = 5;
// The weight of a pixel at a distance, and the distance from which on it is zero.
const FILTERS = {
  [BILINEAR]: {support: 1, weigh: (x) => Math.max(0, 1 - Math.abs(x))},
  [BICUBIC]: {support: 2, weigh: weighCubic},
  [HAMMING]: {support: 1, weigh: weighHamming},
};

function weighCubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

function weighHamming(x) {
  x = Math.abs(x) * Math.PI;
  if (x === 0) return 1;
  return x < Math.PI ? (Math.sin(x) / x) * (0.54 + 0.46 * Math.cos(x)) : 0;
}

/**
 * Makes as many new pixels as `newSize` of those between two places among `size` old ones.
 *
 * Returns for each the first old one that it depends on, and the weights of that one and those behind it.
 */
function makeWeights(size, first, last, newSize, {support, weigh}) {
  const scale = Math.fround(last - first) / newSize, stretch = Math.max(1, scale), reach = support * stretch;
  return Array.from({length: newSize}, (_, index) => {
    const centre = first + (index + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5)), end = Math.min(size, Math.trunc(centre + reach + 0.5));
    const weights = Array.from({length: end - start}, (_, k) => weigh((start + k - centre + 0.5) / stretch));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return {start, weights: Int32Array.from(weights, (weight) => roundAway((weight / (sum || 1)) * (1 << PRECISION)))};
  });
}

const roundAway = (value) => Math.trunc(value + Math.sign(value) * 0.5);

/**
 * Resizes a picture, or a box of it, as Pillow's `Image.resize` does.
 *
 * @param reducingGap As in Pillow; 0 for none.
 * @param box Left, top, right and bottom; they need not be whole.
 * @returns {Pixels}
 */
export function resize(picture, size, filter, reducingGap = 0, box = [0, 0, picture.width, picture.height]) {
  const {support} = FILTERS[filter], sides = [picture.width, picture.height];
  const scales = size.map((side, axis) => (box[axis + 2] - box[axis]) / side);
  const factors = scales.map((scale) => (reducingGap && Math.trunc(scale / reducingGap)) || 1);
  if (Math.max(...factors) === 1) box = box.map(Math.fround); // Pillow's numbers in C have 32 bits
  // The filter sees no pixel beyond these.
  const reaches = scales.map((scale) => support * Math.max(1, scale) - scale / 2);
  const starts = reaches.map((reach, axis) => Math.max(0, Math.trunc(box[axis] - reach)));
  const ends = reaches.map((reach, axis) => Math.min(sides[axis], Math.ceil(box[axis + 2] + reach)));
  const part = reduce(picture.crop(...starts, ...ends), factors);
  const [columns, rows] = [part.width, part.height].map((side, axis) => {
    const [first, last] = [box[axis], box[axis + 2]].map((place) => Math.fround((place - starts[axis]) / factors[axis]));
    return makeWeights(side, first, last, size[axis], FILTERS[filter]);
  });
  return resizeHeight(resizeWidth(part, columns), rows);
}

/** Yields the rows of a picture in strips; but for the last, each holds a multiple of so many rows. */
function* readStrips(picture, multiple = 1) {
  const step = multiple * Math.ceil(STRIP / multiple);
  for (let top = 0; top < picture.height; top += step) {
    yield picture.readRows(top, Math.min(top + step, picture.height));
  }
}

function resizeWidth(picture, columns) {
  const narrow = new Pixels(columns.length, picture.height);
  let to = 0;
  for (const strip of readStrips(picture)) {
    for (let row = 0; row < strip.length; row += 4 * picture.width) {
      for (const {start, weights} of columns) {
        let red = HALF, green = HALF, blue = HALF, from = row + 4 * start;
        for (let k = 0; k < weights.length; k++, from += 4) {
          const weight = weights[k];
          red += strip[from] * weight;
          green += strip[from + 1] * weight;
          blue += strip[from + 2] * weight;
        }
        narrow.data[to++] = red >> PRECISION;
        narrow.data[to++] = green >> PRECISION;
        narrow.data[to++] = blue >> PRECISION;
        narrow.data[to++] = 255;
      }
    }
  }
  return narrow;
}

function resizeHeight(picture, rows) {
  const low = new Pixels(picture.width, rows.length), length = 4 * picture.width, sums = new Int32Array(length);
  rows.forEach(({start, weights}, row) => {
    sums.fill(HALF);
    weights.forEach((weight, k) => {
      const from = (start + k) * length;
      for (let i = 0; i < length; i++) sums[i] += picture.data[from + i] * weight;
    });
    for (let i = 0; i < length; i++) low.data[row * length + i] = sums[i] >> PRECISION;
  });
  return low;
}

/** Averages blocks of pixels as Pillow's `Image.reduce` does; blocks at the right and lower edge may be smaller. */
function reduce(picture, [across, down]) {
  if (across === 1 && down === 1) return picture;
  const {width} = picture, small = new Pixels(Math.ceil(width / across), Math.ceil(picture.height / down));
  const sums = new Float64Array(3 * small.width);
  let to = 0;
  for (const strip of readStrips(picture, down)) {
    const height = strip.length / 4 / width;
    for (let top = 0; top < height; top += down) {
      const bottom = Math.min(top + down, height);
      sumBlocks(strip, width, top, bottom, across, sums);
      for (let block = 0, left = 0; left < width; block += 3, left += across, to += 4) {
        const count = (Math.min(left + across, width) - left) * (bottom - top), half = Math.trunc(count / 2);
        const factor = Math.trunc(Math.fround(2 ** 32 / (256 * count))); // Pillow divides by a product of whole numbers
        for (let channel = 0; channel < 3; channel++) {
          small.data[to + channel] = Math.trunc(((sums[block + channel] + half) * factor) / 2 ** 24);
        }
        small.data[to + 3] = 255;
      }
    }
  }
  return small;
}

/** Sums red, green and blue of each block `across` pixels wide in some rows. */
function sumBlocks(pixels, width, top, bottom, across, sums) {
  sums.fill(0);
  for (let y = top, from = 4 * top * width; y < bottom; y++) {
    for (let block = 0, left = 0; left < width; block += 3, left += across) {
      const end = from + 4 * (Math.min(left + across, width) - left);
      let red = 0, green = 0, blue = 0;
      for (; from < end; from += 4) {
        red += pixels[from];
        green += pixels[from + 1];
        blue += pixels[from + 2];
      }
      sums[block] += red;
      sums[block + 1] += green;
      sums[block + 2] += blue;
    }
  }
}

/**
 * Returns a square whose pixel (x, y) shows the point (a x + b y + c, d x + e y + f) of a picture, as Pillow's
 * `Image.transform` does with `AFFINE` and `BILINEAR` or `BICUBIC`. Points outside the picture are black.
 */
export function transform({width, height, data}, [a, b, c, d, e, f], size, filter) {
  const square = new Pixels(size, size), clip = (value, end) => Math.max(0, Math.min(value, end - 1));
  const interpolate = filter === BILINEAR ? interpolateLine : interpolateCubic, lines = new Float64Array(4);
  for (let index = 0; index < size * size; index++) {
    const column = (index % size) + 0.5, line = Math.trunc(index / size) + 0.5;
    const x = a * column + b * line + c, y = d * column + e * line + f;
    square.data[4 * index + 3] = 255;
    if (x < 0 || x >= width || y < 0 || y >= height) continue;
    const left = Math.floor(x - 0.5), top = Math.floor(y - 0.5), dx = x - 0.5 - left, dy = y - 0.5 - top;
    const x0 = 4 * clip(left - 1, width), x1 = 4 * clip(left, width);
    const x2 = 4 * clip(left + 1, width), x3 = 4 * clip(left + 2, width);
    for (let channel = 0; channel < 3; channel++) {
      for (let k = 0; k < 4; k++) {
        const at = 4 * width * clip(top + k - 1, height) + channel;
        lines[k] = interpolate(data[at + x0], data[at + x1], data[at + x2], data[at + x3], dx);
      }
      square.data[4 * index + channel] = Math.trunc(Math.max(0, interpolate(lines[0], lines[1], lines[2], lines[3], dy)));
    }
  }
  return square;
}

const interpolateLine = (before, first, second, after, share) => first + share * (second - first);

function interpolateCubic(before, first, second, after, share) {
  const slope = second - before, bend = 2 * (before - first) + second - after, twist = first - before - second + after;
  return first + share * (slope + share * (bend + share * twist));
}
