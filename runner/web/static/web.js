// What every page does with JavaScript: parts marked `data-fresh` are renewed while they are seen.
"use strict";

const FRESH_MS = 5000;
const SHARE_MAX = 30; // one part in so many of the time is spent asking

async function renew() {
  const here = [...document.querySelectorAll("[data-fresh]")];
  if (!here.length || document.hidden) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of here) {
    const newer = page.getElementById(part.id);
    // what somebody is in the middle of using stays as it is
    if (newer && !part.contains(document.activeElement) && newer.innerHTML !== part.innerHTML) {
      part.replaceWith(document.adoptNode(newer));
    }
  }
}

async function keepFresh() {
  const began = performance.now();
  await renew().catch(() => {});
  setTimeout(keepFresh, Math.max(FRESH_MS, SHARE_MAX * (performance.now() - began)));
}
setTimeout(keepFresh, FRESH_MS);

// one box that chooses every row of a list
for (const all of document.querySelectorAll("[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of all.form.querySelectorAll("input[name=document]:enabled")) box.checked = all.checked;
  });
}

// a name that was typed once is there on the next page
for (const field of document.querySelectorAll("[data-keep]")) {
  field.value = localStorage.getItem(field.dataset.keep) ?? field.value;
  field.addEventListener("change", () => localStorage.setItem(field.dataset.keep, field.value));
}
