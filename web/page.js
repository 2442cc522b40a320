// The page: its tabs, the loading of the networks, and `window.ageGender` for tests and other pages.

import {estimate, load, ready} from "./client.js";
import {buildCameraTab} from "./camera_tab.js";
import {buildFilesTab} from "./files_tab.js";
import {buildPhotoTab} from "./photo_tab.js";

const WAIT = 5000; // milliseconds for the service worker, which some browsers refuse

/** Starts the service worker; resolves when it keeps what the page loads. */
async function keepFiles() {
  const {serviceWorker} = navigator;
  await serviceWorker?.register("service_worker.js"); // also looks for a new version of the page
  if (!serviceWorker || serviceWorker.controller) return;
  await new Promise((resolve) => {
    serviceWorker.addEventListener("controllerchange", resolve, {once: true});
    setTimeout(resolve, WAIT);
  });
}

function showProgress(done, total) {
  const bar = document.querySelector("#loading progress");
  [bar.value, bar.max] = [done, total];
  document.querySelector("#loading span").textContent = `${Math.round(done / 1e6)} of ${Math.round(total / 1e6)} MB`;
}

async function start() {
  const loading = document.getElementById("loading");
  await keepFiles().catch(() => {}); // without it, the page works online
  load(showProgress);
  try {
    document.documentElement.dataset.provider = await ready;
    loading.hidden = true;
  } catch (error) {
    loading.textContent = error.message;
  }
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

buildTabs();
buildPhotoTab();
buildFilesTab();
buildCameraTab();
start();
window.ageGender = {ready, estimate};
