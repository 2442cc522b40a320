// Keeps the page's files, so that it works offline once it was loaded. The build puts three constants above: VERSION, a name that
// changes with any file, FILES, the files to keep at once, and LARGE, those of which a browser needs a part. network.js keeps that
// part, at addresses that change with the content.

const CACHE = `${registration.scope} ${VERSION}`, KEPT = `${registration.scope} large`;
const FRESH = {cache: "no-cache"}; // files of one version, even where the browser has kept one of another

addEventListener("install", (event) => event.waitUntil(fill()));

/** Keeps the files, the large ones too of which the version before has kept another content. */
async function fill() {
  const [cache, kept] = await Promise.all([CACHE, KEPT].map((name) => caches.open(name)));
  await cache.addAll(FILES.map((file) => new Request(file, FRESH)));
  for (const file of LARGE) {
    if (!(await kept.match(file)) && (await kept.match(file, {ignoreSearch: true}))) await kept.add(file);
  }
}

addEventListener("activate", (event) => event.waitUntil(tidy()));

/** Deletes what the version before has kept. */
async function tidy() {
  const names = (await caches.keys()).filter((name) => name.startsWith(`${registration.scope} `));
  await Promise.all(names.filter((name) => name !== CACHE && name !== KEPT).map((name) => caches.delete(name)));
  const kept = await caches.open(KEPT), addresses = LARGE.map((file) => new URL(file, registration.scope).href);
  const old = (await kept.keys()).filter(({url}) => !addresses.includes(url));
  await Promise.all(old.map((request) => kept.delete(request)));
  await clients.claim(); // the page that is open works offline too
}

addEventListener("fetch", (event) => {
  const {method, url} = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(CACHE), kept = await cache.match(request, {ignoreSearch: true});
  return kept ?? fetch(request, FRESH);
}
