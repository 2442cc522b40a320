// From a photo to the age and gender of each face: a port of pipeline_agegender.py.

import {camera_tab, detector, inference, model, pipeline_agegender, processor} from "./settings.js";
import {alignFace} from "./align.js";
import {FaceDetector} from "./detect.js";
import {resize} from "./resize.js";

const {CROP_SIDE} = pipeline_agegender, {BATCH_SIZE} = inference;

/** Detects faces of a camera at one size, as space/camera_tab.py does. */
class FrameDetector extends FaceDetector {
  computeSizes(width, height) {
    const factor = Math.min(1, Math.sqrt(camera_tab.DETECTION_PIXELS / (width * height)));
    return [[width, height].map((side) => Math.max(1, Math.round(side * factor)))];
  }
}

/** Returns the faces with the `count` largest boxes, or all, largest first. */
function findLargest(faces, count) {
  const area = ({box}) => (box[2] - box[0]) * (box[3] - box[1]);
  return [...faces].sort((one, other) => area(other) - area(one)).slice(0, count);
}

/** Sorts faces row by row from the top, each row from left to right. */
function sortInRows(faces) {
  const rows = [];
  for (const face of [...faces].sort((one, other) => one.box[1] + one.box[3] - other.box[1] - other.box[3])) {
    if (!rows.length || face.box[1] + face.box[3] > 2 * rows.at(-1)[0].box[3]) rows.push([]);
    rows.at(-1).push(face);
  }
  return rows.flatMap((row) => row.sort((one, other) => one.box[0] + one.box[2] - other.box[0] - other.box[2]));
}

/** Returns what the image processor makes of a crop: red, green and blue one after another, normalised. */
function processImage(crop) {
  const {width, height} = processor.size, area = width * height, values = new Float32Array(3 * area);
  const {data} = resize(crop, [width, height], processor.resample);
  for (let channel = 0; channel < 3; channel++) {
    const mean = Math.fround(processor.image_mean[channel]), std = Math.fround(processor.image_std[channel]);
    for (let i = 0; i < area; i++) {
      const value = Math.fround(data[4 * i + channel] * processor.rescale_factor);
      values[channel * area + i] = Math.fround(value - mean) / std;
    }
  }
  return values;
}

function softmax(scores) {
  const top = Math.max(...scores), powers = Array.from(scores, (score) => Math.exp(score - top));
  const sum = powers.reduce((one, other) => one + other);
  return powers.map((power) => power / sum);
}

/** Returns for each age the probability of being at least so old, as `compute_age_at_least` does. */
function computeAgeAtLeast(distribution) {
  const {age_at_least_scale: scale, age_at_least_shift: shift} = model;
  const sum = (values) => values.reduce((one, other) => one + other, 0);
  return distribution.map((_, age) => {
    const odds = sum(distribution.slice(age)) / sum(distribution.slice(0, age));
    return 1 / (1 + Math.exp(-(scale * Math.log(odds) + shift)));
  });
}

/** Estimates the age and gender of each face of a photo. */
export class Estimator {
  constructor(yunet, network) {
    this.network = network;
    this.detector = new FaceDetector(yunet, detector);
    this.frameDetector = new FrameDetector(yunet, {...detector, search_turned: false});
  }

  /**
   * @param {Photo} photo
   * @param size Width and height of the file, in whose pixels boxes are given.
   * @param options Those of the pipeline, `age_thresholds` among them, and `quick` for frames of a camera.
   * @returns The pipeline's list of dicts.
   */
  async estimate(photo, size, options = {}) {
    const {detect_faces = true, threshold, max_faces, return_crops, return_age_distribution, age_thresholds, quick} = options;
    const found = [];
    if (!detect_faces) {
      found.push({crop: photo, box: [0, 0, photo.width, photo.height], score: null});
    } else {
      const faces = await (quick ? this.frameDetector : this.detector).detect(photo, threshold);
      for (const face of sortInRows(findLargest(faces, max_faces))) {
        found.push({...face, crop: alignFace(photo, face.landmarks, CROP_SIDE)});
      }
    }
    const scales = [size[0] / photo.width, size[1] / photo.height], answers = [];
    for (let start = 0; start < found.length; start += BATCH_SIZE) {
      answers.push(...(await this.forward(found.slice(start, start + BATCH_SIZE).map(({crop}) => crop))));
    }
    return found.map(({crop, box, score}, index) => {
      const {age_distribution, ...answer} = answers[index];
      const [xmin, ymin, xmax, ymax] = box.map((side, axis) => Math.round(side * scales[axis % 2]));
      const face = {...answer, box: {xmin, ymin, xmax, ymax}, detection_score: score};
      if (return_crops) face.crop = detect_faces ? crop : resize(crop, [CROP_SIDE, CROP_SIDE], processor.resample);
      if (return_age_distribution) face.age_distribution = age_distribution;
      if (age_thresholds?.length) {
        const atLeast = computeAgeAtLeast(age_distribution);
        face.age_at_least = Object.fromEntries(age_thresholds.map((age) => [age, atLeast[age]]));
      }
      return face;
    });
  }

  /** Runs the network on crops. */
  async forward(crops) {
    const {width, height} = processor.size, values = new Float32Array(crops.length * 3 * width * height);
    crops.forEach((crop, index) => values.set(processImage(crop), index * 3 * width * height));
    const output = await this.network.run({pixel_values: [values, [crops.length, 3, height, width]]});
    const part = (name, index) => {
      const count = output[name].length / crops.length;
      return output[name].subarray(index * count, (index + 1) * count);
    };
    return crops.map((_, index) => {
      const genders = softmax(part("gender_logits", index)), gender_score = Math.max(...genders);
      return {
        age: output.age[index],
        age_interval: [...part("age_interval", index)],
        gender: model.id2label[genders.indexOf(gender_score)],
        gender_score,
        age_distribution: softmax(part("age_logits", index)),
      };
    });
  }
}
