// Shows what the server tells. Text goes in as text, never as markup.
"use strict";

// Longer than three beats.
const SILENT_AFTER_MS = 7000;
const COME_AGAIN_MS = 3000;

const line = document.getElementById("line");
const heard = document.getElementById("heard");
const alerts = new Map();
const times = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
let heardAt = 0;
let lost = "Connecting.";

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The line is read out when it changes, so it only changes when there is something to say.
function tell() {
  const told = [...alerts.values()].filter((alert) => alert !== "");
  const text = lost || (told.length > 0 ? `Live. Look: ${told.join("; ")}.` : "Live.");
  if (line.textContent !== text) line.textContent = text;
  line.className = lost ? "lost" : told.length > 0 ? "alert" : "";
}

function cell(content, label, index) {
  // The roles stand there for the phone's layout, in which a browser no longer sees a table.
  const made = index === 0
    ? element("th", undefined, { scope: "row", role: "rowheader" })
    : element("td", undefined, { role: "cell", "data-label": label });
  if (typeof content === "string") {
    made.textContent = content;
  } else if ("at" in content) {
    const at = new Date(content.at * 1000);
    made.append(element("time", times.format(at), { datetime: at.toISOString() }));
  } else {
    made.append(element("span", content.text, { class: content.mark }));
  }
  return made;
}

function table(shown) {
  const made = element("table", undefined, { role: "table" });
  made.append(element("caption", shown.caption));
  const head = element("thead", undefined, { role: "rowgroup" });
  const names = element("tr", undefined, { role: "row" });
  for (const column of shown.columns) names.append(element("th", column, { scope: "col", role: "columnheader" }));
  head.append(names);
  const body = element("tbody", undefined, { role: "rowgroup" });
  for (const row of shown.rows) {
    const line = element("tr", undefined, { role: "row" });
    row.forEach((content, index) => line.append(cell(content, shown.columns[index], index)));
    body.append(line);
  }
  made.append(head, body);
  return made;
}

function show(section, part) {
  const made = [];
  if (part.error !== undefined) {
    made.push(element("p", `Not available: ${part.error}`, { class: "failed" }));
  } else {
    for (const one of part.shown.tables) {
      if (one.rows.length === 0) {
        made.push(element("h3", one.caption, { class: "caption" }), element("p", one.empty, { class: "empty" }));
      } else {
        made.push(table(one));
      }
      if (one.note) made.push(element("p", one.note, { class: "note" }));
    }
  }
  section.replaceChildren(section.querySelector("h2"), ...made);
  alerts.set(part.part, (part.shown && part.shown.alert) || "");
}

function hear() {
  heardAt = Date.now();
  heard.textContent = `Last heard from the server at ${clock.format(heardAt)}.`;
  lost = "";
  tell();
}

function listen() {
  const source = new EventSource("/events");
  source.addEventListener("who", (event) => {
    const who = JSON.parse(event.data);
    document.getElementById("who").textContent = `${who.principal}, tenant ${who.tenant}`;
    hear();
  });
  source.addEventListener("part", (event) => {
    const part = JSON.parse(event.data);
    const section = document.querySelector(`[data-part="${CSS.escape(part.part)}"]`);
    if (section) {
      try {
        show(section, part);
      } catch (error) {
        show(section, { part: part.part, error: `it cannot be shown (${error.message})` });
      }
    }
    hear();
  });
  source.addEventListener("beat", hear);
  source.addEventListener("error", () => {
    lost = "Connection lost: what stands here may be old.";
    tell();
    // A browser comes again by itself after a connection that broke, not after one that was refused.
    if (source.readyState === EventSource.CLOSED) again();
  });
}

async function again() {
  let status = 0;
  try {
    status = (await fetch("/session", { cache: "no-store" })).status;
  } catch {
    // The server is away; it is asked again.
  }
  if (status === 401) location.assign("/login");
  else setTimeout(status === 204 ? listen : again, COME_AGAIN_MS);
}

setInterval(() => {
  if (!lost && Date.now() - heardAt > SILENT_AFTER_MS) {
    lost = "The server is silent: what stands here may be old.";
    tell();
  }
}, 1000);

listen();
