// The page's side of worker.js.

import {openPicture} from "./reading.js";
import {model} from "./settings.js";

const NO_MODEL = "The model cannot be loaded: open this page again when you are online.";
const ENDED = "The work on this photo broke off: try again, or with a smaller copy of it.";
// A worker that starts at a blob: address obeys the page's security policy, which forbids to send anything to another site.
const START = new Blob([`import ${JSON.stringify(new URL("worker.js", import.meta.url))};`], {type: "text/javascript"});

let queue = Promise.resolve(), worker = null, ready, receive = () => {};

/**
 * Starts the worker, which loads the model.
 *
 * @param onProgress Called with the bytes that have come and those that are to come.
 * @returns A promise of what computes, "webgpu" or "wasm", once the model is loaded.
 */
export function load(onProgress = () => {}) {
  worker = new Worker(URL.createObjectURL(START), {type: "module"});
  ready = new Promise((resolve, reject) => {
    const refuse = (cause) => reject(new Error(NO_MODEL, {cause}));
    worker.onmessage = ({data}) => {
      if (data.progress) onProgress(...data.progress);
      else if (data.ready) resolve(data.ready);
      else if (data.broken) refuse(data.broken);
      else receive(data);
    };
    worker.onerror = ({message}) => {
      stop();
      refuse(message);
      receive({failed: ENDED});
    };
  });
  return ready;
}

/** Ends a worker that failed, for which memory or a lost GPU may be the reason. The next photo starts another one. */
function stop() {
  worker?.terminate();
  worker = null;
}

/** Throws an error if an age is no whole number or no age of the model. */
function checkAgeThresholds(ages) {
  const isAge = (age) => Number.isInteger(age) && age >= 0 && age < model.num_age_classes;
  if (Array.isArray(ages) && ages.every(isAge)) return;
  const last = model.num_age_classes - 1;
  throw new Error(`age_thresholds must be a list of whole numbers from 0 to ${last}, got ${JSON.stringify(ages)}.`);
}

/**
 * Estimates the age and gender of each face of a photo, once those of other photos are known.
 *
 * @param {Blob} blob The content of the file.
 * @param options As in estimate.js.
 * @returns The pipeline's list of dicts.
 * @throws {PhotoError} with a sentence for the visitor, if the file cannot be read.
 */
export function estimate(blob, options = {}) {
  const answer = queue.then(async () => {
    checkAgeThresholds(options.age_thresholds ?? []);
    const {image, size, reduced, error} = await openPicture(blob);
    URL.revokeObjectURL(image.src);
    if (!worker) load();
    await ready;
    const {faces, failed} = await new Promise((resolve) => {
      receive = resolve;
      worker.postMessage({blob, size, reduced, options});
    });
    if (faces) return faces;
    if (!failed) throw error;
    stop();
    throw new Error(failed);
  });
  queue = answer.catch(() => {});
  return answer;
}
