/**
 * The demo's service worker: it stores the page's own files, so that the page opens without a network. The runtime stores
 * the bundles' files. `SITE` stands before this code: {version, files}, written with the site.
 */

declare const SITE: { version: string; files: string[] };

interface Lifecycle extends Event {
  waitUntil(done: Promise<unknown>): void;
}
interface Fetched extends Event {
  request: Request;
  respondWith(response: Promise<Response>): void;
}
const scope = self as unknown as {
  registration: { scope: string };
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
  addEventListener(kind: "install" | "activate", listener: (event: Lifecycle) => void): void;
  addEventListener(kind: "fetch", listener: (event: Fetched) => void): void;
};
const PREFIX = "edgerec-demo ";
const here = `${PREFIX}${scope.registration.scope} ${SITE.version}`;

scope.addEventListener("install", (event) => {
  const fill = async () => (await caches.open(here)).addAll(SITE.files);
  event.waitUntil(fill().then(() => scope.skipWaiting()));
});

scope.addEventListener("activate", (event) => {
  const clear = async () => {
    const older = (await caches.keys()).filter((name) => name.startsWith(`${PREFIX}${scope.registration.scope} `) && name !== here);
    await Promise.all(older.map((name) => caches.delete(name)));
    await scope.clients.claim();
  };
  event.waitUntil(clear());
});

scope.addEventListener("fetch", (event) => {
  const { url, method } = event.request;
  if (method === "GET" && url.startsWith(scope.registration.scope)) {
    event.respondWith(url.startsWith(`${scope.registration.scope}bundle/`) ? fromNetwork(event.request) : stored(event.request));
  }
});

/** The file as it was when this version was installed. */
async function stored(request: Request): Promise<Response> {
  const cache = await caches.open(here);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

/** The file as it is now; without a network, as it was stored. */
async function fromNetwork(request: Request): Promise<Response> {
  try {
    return await fetch(request);
  } catch {
    return (await caches.match(request.url)) ?? Response.error();
  }
}
