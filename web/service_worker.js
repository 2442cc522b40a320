// Keeps the page's files, so that it works offline once it was loaded. The build puts VERSION and FILES above: a name that
// changes with any file, and the files to keep at once. Large ones, of which a browser needs a part, are kept when they come.

const CACHE = `${registration.scope} ${VERSION}`;
const FRESH = {cache: "no-cache"}; // files of one version, even where the browser has kept one of another

addEventListener("install", (event) => event.waitUntil(fill()));

async function fill() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((file) => new Request(file, FRESH)));
}

addEventListener("activate", (event) => event.waitUntil(tidy()));

async function tidy() {
  const names = (await caches.keys()).filter((name) => name.startsWith(`${registration.scope} `) && name !== CACHE);
  await Promise.all(names.map((name) => caches.delete(name)));
  await clients.claim(); // the page that is open loads the large files
}

addEventListener("fetch", (event) => {
  const {method, url} = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(answer(event));
});

async function answer(event) {
  const cache = await caches.open(CACHE), kept = await cache.match(event.request, {ignoreSearch: true});
  if (kept) return kept;
  const response = await fetch(event.request, FRESH);
  if (response.ok) event.waitUntil(cache.put(event.request, response.clone()));
  return response;
}
