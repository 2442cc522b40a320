// The page: its tabs, the loading of the model, and `window.ageGender` for tests and the console.

import {estimate, load} from "./client.js";
import {buildCameraTab} from "./camera_tab.js";
import {buildFilesTab} from "./files_tab.js";
import {buildPhotoTab} from "./photo_tab.js";

/** Loads the model and shows how much of it has come; screen readers announce only a failure. */
function showLoading() {
  const loading = document.getElementById("loading"), [status, text, bar] = loading.children;
  const ready = load((done, total) => {
    [bar.value, bar.max] = [done, total];
    text.textContent = `${Math.round(done / 1e6)} of ${Math.round(total / 1e6)} MB`;
  });
  ready.then(() => (loading.hidden = true), ({message}) => {
    status.textContent = message;
    [text, bar].forEach((element) => element.remove());
  });
  return ready;
}

function buildTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const open = (chosen) => tabs.forEach((tab) => {
    tab.ariaSelected = String(tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  });
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", ({key}) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[key];
      if (!step) return;
      const next = tabs.at((index + step) % tabs.length);
      open(next);
      next.focus();
    });
  });
}

/** Gives files that are dropped or pasted anywhere on the page to the tab that is open, if it takes files. */
function takeFiles(takers) {
  const take = ({files}) => {
    const taker = takers[document.querySelector("[role=tabpanel]:not([hidden])").id];
    if (files.length && taker) taker(files);
  };
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault(); // or the browser would open the file in place of the page
      document.body.classList.toggle("over", name === "dragover");
      if (name === "drop") take(event.dataTransfer);
    });
  }
  document.addEventListener("paste", ({clipboardData}) => take(clipboardData));
}

buildTabs();
takeFiles({photo: buildPhotoTab(), many: buildFilesTab()});
buildCameraTab();
window.ageGender = {ready: showLoading(), estimate};
navigator.serviceWorker?.register("service_worker.js").catch(() => {}); // without it, the page works online
