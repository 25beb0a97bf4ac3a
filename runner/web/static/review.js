// Keys of the review page; what each does stands on the page itself.
"use strict";

const isField = (place) => place instanceof HTMLElement && place.matches("input, textarea, select");
const button = (decision) => document.querySelector(`.decide button[value=${decision}]`);

const note = document.querySelector("[name=note]");

let wantsToReject = false; // since `r` was pressed, until the note is left

const KEYS = {
  a: () => button("accepted")?.click(),
  c: () => (document.querySelector(".doubted input, .doubted textarea") ?? document.querySelector(".fields input, .fields textarea"))?.focus(),
  r: () => {
    wantsToReject = true;
    note.focus();
  },
  j: () => document.getElementById("after")?.click(),
  k: () => document.getElementById("before")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    document.activeElement?.blur();
  } else if (event.key === "Enter" && wantsToReject && document.activeElement === note) {
    event.preventDefault();
    button("rejected").click();
  } else if (!isField(document.activeElement) && KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

note.addEventListener("blur", () => {
  wantsToReject = false;
});
