// The page's side of worker.js.

import {openPicture} from "./reading.js";

const NO_NETWORK = "The networks cannot be loaded: open this page again when you are online.";

let queue = Promise.resolve(), worker, receive, settle;
/** A promise of what computes, "webgpu" or "wasm", once the networks are loaded. */
export const ready = new Promise((resolve, reject) => {
  settle = {resolve, reject: (message) => reject(new Error(NO_NETWORK, {cause: message}))};
});

/** Loads the networks; `onProgress` is called with the bytes that have come and those that are to come. */
export function load(onProgress) {
  worker = new Worker(new URL("worker.js", import.meta.url), {type: "module"});
  worker.onerror = ({message}) => settle.reject(message);
  worker.onmessage = ({data}) => {
    if (data.progress) onProgress(...data.progress);
    else if (data.ready) settle.resolve(data.ready);
    else if (data.broken) settle.reject(data.broken);
    else receive(data);
  };
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
    await ready;
    const {image, size, reduced, error} = await openPicture(blob);
    URL.revokeObjectURL(image.src);
    const {faces, failed} = await new Promise((resolve) => {
      receive = resolve;
      worker.postMessage({blob, size, reduced, options});
    });
    if (faces) return faces;
    throw failed ? new Error(failed) : error;
  });
  queue = answer.catch(() => {});
  return answer;
}
