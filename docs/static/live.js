// The front page's recommender: the bundle of live-data.js, opened by the kernel in WebAssembly. Nothing is fetched.
"use strict";

(async () => {
  const { library, kernel, bundle, start } = globalThis.edgerecLive;
  const place = document.getElementById("live");
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const opened = performance.now();
  const { load } = await import(URL.createObjectURL(new Blob([library], { type: "text/javascript" })));
  const model = await load(
    { read: async (file) => bytes(bundle[file]) },
    { kernel: await WebAssembly.compile(bytes(kernel)) },
  );
  const ready = performance.now() - opened;
  const liked = new Set();

  function create(kind, properties = {}, ...inside) {
    const element = Object.assign(document.createElement(kind), properties);
    element.append(...inside);
    return element;
  }

  function button(item) {
    const one = create("button", { type: "button", className: "live-film" }, model.title(item));
    one.dataset.item = item;
    one.setAttribute("aria-pressed", String(liked.has(item)));
    one.addEventListener("click", async () => {
      liked.has(item) ? liked.delete(item) : liked.add(item);
      await answer();
      (place.querySelector(`[data-item="${item}"]`) ?? place.querySelector("button")).focus();
    });
    return one;
  }

  const figure = (name, id) => create("div", {}, create("dt", {}, name), create("dd", { id }, "–"));
  const picks = create("div", { className: "live-films" });
  const best = create("ol", { className: "live-best" });
  const heading = create("p", { className: "live-heading" });
  const said = create("p", { className: "live-said", role: "status" });
  const figures = create(
    "dl",
    { className: "live-figures" },
    figure("this answer", "live-ms"),
    figure("the bundle", "live-bytes"),
    figure("the program", "live-program"),
    figure("open to ready", "live-ready"),
    figure("requests", "live-requests"),
  );
  const like = create("p", { className: "live-heading" }, "Which of these do you like?");
  place.replaceChildren(
    create("div", { className: "live-columns" }, create("div", {}, like, picks), create("div", {}, heading, best)),
    figures,
    said,
  );
  const show = (id, text) => (document.getElementById(id).textContent = text);
  show("live-bytes", `${model.metadata.bytes.toLocaleString("en")} bytes`);
  show("live-program", `${(library.length + bytes(kernel).length).toLocaleString("en")} bytes`);
  show("live-ready", `${ready.toFixed(0)} ms`);

  async function answer() {
    const history = [...liked];
    const ask = () => (history.length > 0 ? model.recommend({ history, k: 6 }) : model.popular(6));
    const found = await ask();
    // A browser's clock is coarse: the mean of fifty more of the same.
    const began = performance.now();
    for (let again = 0; again < 50; again += 1) await ask();
    show("live-ms", `${((performance.now() - began) / 50).toFixed(2)} ms`);
    // Those of this page's own: a browser counts what it has loaded since the recommender was opened.
    const later = performance.getEntriesByType("resource").filter(({ startTime, name }) => startTime > opened && !name.startsWith("blob:"));
    show("live-requests", String(later.length));
    heading.textContent = history.length > 0 ? "Then you may like" : "Popular";
    picks.replaceChildren(...[...new Set([...history, ...start])].map(button));
    best.replaceChildren(...found.map(({ item }) => create("li", {}, button(item))));
    said.textContent = `${found.length} recommendations, first ${model.title(found[0].item)}`;
  }
  await answer();
})().catch((error) => {
  document.getElementById("live").textContent = `The recommender cannot run in this browser: ${error.message}`;
});
