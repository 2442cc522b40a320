// Runs ONNX files with onnxruntime-web: on the GPU where there is WebGPU and it answers right, else in WebAssembly.

import {checks, large, runtimes} from "./settings.js";

const KEPT = `${new URL("./", import.meta.url)} large`; // the cache of large files; service_worker.js tidies it
const MAX_ERROR = 0.02; // of scores; another GPU changes their fifth digit, a broken driver the first

/**
 * Loads the networks.
 *
 * @param {string[]} files
 * @param onProgress Called with the bytes that have come and those that are to come.
 * @param hasGpu Whether to try WebGPU; by default, where there is one.
 * @returns {Network[]} One for each file.
 */
export async function loadNetworks(files, onProgress, hasGpu = findGpu()) {
  if (await hasGpu) {
    try {
      return await loadWith("webgpu", files, onProgress);
    } catch (error) {
      console.warn("WebGPU is not used:", error);
    }
  }
  return loadWith("wasm", files, onProgress);
}

/** Returns whether there is a GPU; one that the processor imitates is slower than WebAssembly. */
async function findGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter && !adapter.info?.isFallbackAdapter);
}

async function loadWith(provider, files, onProgress) {
  const {module, binary} = runtimes[provider], all = [binary, ...files];
  const total = all.reduce((sum, file) => sum + large[file].size, 0);
  let done = 0;
  const count = (bytes) => onProgress((done += bytes), total);
  const ort = await import(`./${module}`);
  const [wasmBinary, ...contents] = await Promise.all(all.map((file) => load(file, count)));
  ort.env.wasm.wasmBinary = wasmBinary;
  ort.env.logLevel = "error";
  // Without warnings that YuNet's results are not of the fixed size.
  const options = {executionProviders: [provider], logSeverityLevel: 3}, networks = [];
  for (const [index, content] of contents.entries()) {
    const session = await ort.InferenceSession.create(content, options);
    networks.push(new Network(files[index], ort, session, provider));
    if (provider === "webgpu") await check(networks[index], checks[files[index]]);
  }
  return networks;
}

/** Reads a file of this site, keeps it for the next time, and counts its bytes as they come. */
async function load(file, count) {
  const {address, size} = large[file], url = new URL(address, import.meta.url);
  const cache = await self.caches?.open(KEPT).catch(() => null); // some browsers refuse
  const kept = await cache?.match(url), response = kept ?? (await fetch(url));
  if (!response.ok) throw new Error(`${file} cannot be loaded (${response.status}).`);
  const content = new Uint8Array(size), reader = response.body.getReader();
  let place = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    content.set(part.value, place);
    place += part.value.length;
    count(part.value.length);
  }
  if (place !== content.length) throw new Error(`${file} is cut off.`);
  if (!kept) await cache?.put(url, new Response(content)).catch(() => {}); // the disk may be full
  return content;
}

/** Compares an answer to waves with that of the machine that built the page. */
async function check(network, {input, shape, output, values}) {
  const length = shape.reduce((one, other) => one * other);
  const waves = Float32Array.from({length}, (_, index) => 64 * Math.sin(index));
  const answer = (await network.compute({[input]: [waves, shape]}))[output];
  if (!values.every((value, index) => Math.abs(value - answer[index]) <= MAX_ERROR)) throw new Error("It answers otherwise.");
}

class Network {
  constructor(file, ort, session, provider) {
    Object.assign(this, {file, ort, session, provider});
  }

  /** Takes the values and the shape of each input; returns the values of each output. Goes over to WebAssembly if the GPU fails. */
  async run(inputs) {
    try {
      return await this.compute(inputs);
    } catch (error) {
      if (this.provider === "wasm") throw error;
      // A GPU may lack memory, or be lost while the machine sleeps.
      Object.assign(this, ...(await loadWith("wasm", [this.file], () => {})));
      return this.compute(inputs);
    }
  }

  async compute(inputs) {
    const {Tensor} = this.ort, named = Object.entries(inputs);
    const tensors = named.map(([name, [values, shape]]) => [name, new Tensor("float32", values, shape)]);
    const outputs = await this.session.run(Object.fromEntries(tensors));
    return Object.fromEntries(Object.entries(outputs).map(([name, {data}]) => [name, data]));
  }
}
