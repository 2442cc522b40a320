"""What computes: a GPU if it is one and answers right, else WebAssembly."""

import pytest


pytestmark = [pytest.mark.browser, pytest.mark.slow]

HAS_ADAPTER = "navigator.gpu?.requestAdapter().then(Boolean)"
# The providers of networks that are loaded with and without WebGPU, and by how much their answers differ.
COMPARE = """async ([isBroken]) => {
  const load = (name) => import(new URL(name, document.baseURI));
  const [{loadNetworks}, {checks}] = [await load('network.js'), await load('settings.js')];
  const {shape, values, output} = checks['model.onnx'];
  if (isBroken) values[0] += 1;
  const networks = [];
  for (const hasGpu of [true, false]) networks.push((await loadNetworks(['model.onnx'], () => {}, hasGpu))[0]);
  if (isBroken) values[0] -= 1;
  const pixels = Float32Array.from({length: shape.reduce((one, other) => one * other)}, (_, index) => Math.cos(index ** 2));
  const answers = [];
  for (const network of networks) answers.push((await network.run({pixel_values: [pixels, shape]}))[output]);
  const differences = [...answers[0]].map((value, index) => Math.abs(value - answers[1][index]));
  return [networks.map(({provider}) => provider), Math.max(...differences), Math.max(...answers[0])];
}"""

# The provider after the GPU was lost: where there is no other, where there is WebAssembly, and by how much its answer differs.
LOSE = """async () => {
  const load = (name) => import(new URL(name, document.baseURI));
  const [{loadNetworks}, {checks}] = [await load('network.js'), await load('settings.js')];
  const {shape, output} = checks['model.onnx'];
  const [network] = await loadNetworks(['model.onnx'], () => {}, true);
  const pixels = Float32Array.from({length: shape.reduce((one, other) => one * other)}, (_, index) => Math.cos(index ** 2));
  const answer = async () => (await network.run({pixel_values: [pixels, shape]}))[output];
  const first = await answer(), providers = [network.provider];
  (await network.ort.env.webgpu.device).destroy();
  const second = await answer();
  return [...providers, network.provider, Math.max(...[...first].map((value, index) => Math.abs(value - second[index])))];
}"""


@pytest.fixture
def gpu_page(ready_page):
    if not ready_page.evaluate(HAS_ADAPTER):
        pytest.skip("needs a Chromium with WebGPU")
    return ready_page


def test_gpu_answers_as_webassembly_does(gpu_page):
    providers, difference, largest = gpu_page.evaluate(COMPARE, [False])
    assert providers == ["webgpu", "wasm"] and difference < 0.01 < largest


def test_gpu_that_answers_otherwise_is_not_used(gpu_page):
    providers, difference, _ = gpu_page.evaluate(COMPARE, [True])
    assert providers == ["wasm", "wasm"] and difference == 0


def test_webassembly_goes_on_where_a_gpu_is_lost(gpu_page):
    before, after, difference = gpu_page.evaluate(LOSE)
    assert (before, after) == ("webgpu", "wasm") and difference < 0.01


def test_gpu_that_the_processor_imitates_is_not_used(gpu_page):
    assert gpu_page.evaluate("ageGender.ready") == "wasm"
