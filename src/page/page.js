"use strict";
const at = (id) => document.getElementById(id);
const say = (text) => { at("message").textContent = text; };
const when = (text) => (text ? new Date(text).toLocaleString() : "–");

async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(`/api/session${path}`, options);
  if (response.status === 204) return null;
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || answer.title || `status ${response.status}`);
  return answer;
}

async function show() {
  const [about, kept] = await Promise.all([call("GET", ""), call("GET", "/values")]);
  at("count").textContent = kept.values.counter ?? 0;
  const notes = Array.isArray(kept.values.notes) ? kept.values.notes : [];
  at("notes").replaceChildren(...notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = String(note);
    return item;
  }));
  at("node").textContent = about.node;
  at("owner").textContent = about.owner ?? "nobody yet: a session begins with the first write";
  at("user").textContent = about.user ?? "nobody";
  at("version").textContent = about.version;
  at("created").textContent = when(about.created);
  at("expires").textContent = when(about.expires);
  at("absolute").textContent = when(about.absolute_expires);
}

async function doing(work) {
  try {
    await work();
    await show();
    say("");
  } catch (error) {
    say(`That did not work: ${error.message}. Try again in a moment.`);
  }
}

at("up").addEventListener("click", () => doing(() => call("POST", "/values/counter/increment", { by: 1 })));
at("down").addEventListener("click", () => doing(() => call("POST", "/values/counter/increment", { by: -1 })));
at("logout").addEventListener("click", () => doing(() => call("DELETE", "")));
at("note").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = at("text");
  doing(async () => {
    await call("POST", "/values/notes/append", { item: field.value });
    field.value = "";
  });
});
doing(async () => {});
