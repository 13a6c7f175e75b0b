// The pages of a demo tool: buttons that post JSON, and parts that are fetched again when something changed.
"use strict";

const LIVE = ["sendings", "people", "mails", "suppressions", "happenings", "pushes", "webhooks", "faults"];
const said = document.getElementById("said");
let version = document.body.dataset.version;

const WORDS = {
  send: (answer) => `Sent to ${answer.sent.length}, ${answer.skipped.length} left out.`,
  event: () => "Done.",
  reset: () => "Empty.",
};

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.title);
  return content;
}

function say(text) {
  said.textContent = text;
  said.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => said.classList.remove("shown"), 4000);
}

function showAnswer(answer) {
  const facts = [
    answer.status === null ? "Nobody answered" : `Answered ${answer.status} in ${answer.milliseconds} ms`,
    answer.redirected ? "with a redirect" : "no redirect",
    answer.cookies ? "with a cookie" : "no cookie",
  ];
  const place = document.getElementById("answer");
  place.className = answer.is_right ? "good" : "bad";
  const head = document.createElement("b");
  head.textContent = `${facts.join(", ")}.`;
  const more = document.createElement("a");
  more.href = "/platform";
  more.textContent = "See what the platform knows";
  place.replaceChildren(head, ` ${answer.text} `, more);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  const body = JSON.parse(button.dataset.body);
  if (button.dataset.listFrom) body.list = document.getElementById(button.dataset.listFrom).value;
  button.disabled = true;
  try {
    const answer = await post(button.dataset.post, body);
    if (button.dataset.said === "one-click") showAnswer(answer);
    else say((WORDS[button.dataset.said] ?? (() => "Done."))(answer));
  } catch (error) {
    say(`That did not work: ${error.message}`);
  }
  button.disabled = false;
  button.focus();
  refresh();
});

const faults = document.getElementById("faults");
faults?.addEventListener("submit", (event) => event.preventDefault());
faults?.addEventListener("change", async () => {
  const wishes = {};
  for (const field of faults.elements) {
    if (field.type === "checkbox") wishes[field.name] = field.checked;
    else if (field.type === "number") wishes[field.name] = Number(field.value);
    else wishes[field.name] = field.value.split(/\s+/);
  }
  try {
    await post("/api/faults", wishes);
  } catch (error) {
    say(`That did not work: ${error.message}`);
  }
});

// Fetches this page again and swaps the parts that differ; rows that were not there before light up.
async function refresh() {
  const answer = await fetch(location.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  version = page.body.dataset.version;
  for (const id of LIVE) {
    const old = document.getElementById(id), fresh = page.getElementById(id);
    if (!old || !fresh) continue;
    localTimes(fresh);
    if (old.innerHTML === fresh.innerHTML) continue;
    if (id === "faults" && old.contains(document.activeElement)) continue;  // somebody is typing there
    const known = new Set([...old.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
    const focused = document.activeElement?.id;
    old.replaceChildren(...fresh.childNodes);
    for (const row of old.querySelectorAll("[data-key]")) row.classList.toggle("fresh", !known.has(row.dataset.key));
    if (focused) document.getElementById(focused)?.focus();
  }
}

async function look() {
  try {
    const answer = await fetch("/api/version");
    if (String((await answer.json()).version) !== version) await refresh();
  } catch {
    // The sandbox is stopped or starting: look again.
  }
  setTimeout(look, 500);
}

function localTimes(root) {
  for (const time of root.querySelectorAll("time")) time.textContent = new Date(time.dateTime).toLocaleTimeString();
}

// A frame knows no height of its own, and a mail should not scroll inside a page.
const frame = document.querySelector("iframe");
function fit() {
  const page = frame.contentDocument?.documentElement;
  if (page) frame.style.height = `${Math.ceil(page.getBoundingClientRect().height)}px`;
}
if (frame) {
  frame.addEventListener("load", fit);
  addEventListener("resize", fit);
  fit();
}

localTimes(document);
look();
