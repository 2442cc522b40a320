// Works beside the page, which stays quick meanwhile: loads the networks, then answers one photo at a time.

import {Estimator} from "./estimate.js";
import {loadNetworks} from "./network.js";
import {openPhoto} from "./photo.js";

const networks = loadNetworks(["yunet.onnx", "model.onnx"], (done, total) => postMessage({progress: [done, total]}));
networks.then(([{provider}]) => postMessage({ready: provider}), (error) => postMessage({broken: error.message}));

onmessage = async ({data: {blob, size, reduced, options}}) => {
  let photo = null;
  try {
    photo = await openPhoto(blob, reduced);
    postMessage({faces: await new Estimator(...(await networks)).estimate(photo, size, options)});
  } catch (error) {
    postMessage({failed: photo && error.message}); // without a photo, the page knows why
  }
  photo?.bitmap.close();
};
