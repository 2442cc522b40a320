// Works beside the page, which stays quick meanwhile: loads the networks, then answers one photo at a time.

import {Estimator} from "./estimate.js";
import {loadNetworks} from "./network.js";
import {openPhoto} from "./photo.js";

const FILES = ["yunet.onnx", "model.onnx"];
let networks = loadNetworks(FILES, (done, total) => postMessage({progress: [done, total]}));
networks.then(([{provider}]) => postMessage({ready: provider}), (error) => postMessage({broken: error.message}));

onmessage = async ({data: {blob, size, reduced, options}}) => {
  let photo = null;
  try {
    photo = await openPhoto(blob, reduced);
    postMessage({faces: await estimate(photo, size, options)});
  } catch (error) {
    postMessage({failed: photo && error.message}); // without a photo, the page knows why
  }
  photo?.bitmap.close();
};

async function estimate(...photo) {
  const both = await networks;
  try {
    return await new Estimator(...both).estimate(...photo);
  } catch (error) {
    if (both[0].provider === "wasm") throw error;
    networks = loadNetworks(FILES, () => {}, false); // a GPU may lack memory, or be lost while the machine sleeps
    return new Estimator(...(await networks)).estimate(...photo);
  }
}
