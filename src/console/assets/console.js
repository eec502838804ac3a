"use strict";
// Everything works without this file. With it, a page looks again by itself, questions open in a dialog, and keys lead
// from page to page.
(() => {
  const at = (id) => document.getElementById(id);
  const main = () => at("main");
  if (!document.body.classList.contains("app")) return;

  // --- Looking again: the new main part is put into the old one node by node, so that focus, scroll positions, open
  // details and selections stay, and nothing jumps.
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
  const kept = new Set(["open"]);
  function attributes(old, fresh) {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !kept.has(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (!kept.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  function morph(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh)) return;
    attributes(old, fresh);
    // What a stream fills stays: it is newer.
    if (lines && old.dataset.stream) return;
    const olds = [...old.childNodes];
    let place = 0;
    for (const child of [...fresh.childNodes]) {
      const match = olds[place];
      if (match && same(match, child)) {
        morph(match, child);
        place += 1;
      } else {
        old.insertBefore(child, match ?? null);
        if (match && match.nodeType === child.nodeType && !match.id) { match.remove(); place += 1; }
      }
    }
    for (const rest of olds.slice(place)) rest.remove();
  }

  const own = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  function dress(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const date = new Date(time.dateTime);
      if (!Number.isNaN(date.getTime())) time.title = `${time.title.split(" · ")[0]} · here ${own.format(date)}`;
    }
    const log = root.querySelector("[data-tail]");
    if (log && follow) log.scrollTop = log.scrollHeight;
    filter();
  }

  let follow = true;
  document.addEventListener("scroll", ({ target }) => {
    if (target.matches?.("[data-tail]")) follow = target.scrollHeight - target.scrollTop - target.clientHeight < 40;
  }, true);

  const edited = () => [...main().querySelectorAll("input, textarea, select")].some((field) => {
    if (field.type === "hidden" || field.matches("[data-filter]")) return false;
    if (field.type === "checkbox") return field.checked !== field.defaultChecked;
    if (field.matches("select")) return [...field.options].some((one) => one.selected !== one.defaultSelected) && field === document.activeElement;
    return field.value !== field.defaultValue || (field === document.activeElement && field.matches("textarea"));
  });
  const selecting = () => {
    const chosen = getSelection();
    return chosen && !chosen.isCollapsed && main().contains(chosen.anchorNode);
  };
  const still = () => !main().dataset.topics;
  const held = () => still() || document.hidden || edited() || selecting() || at("dialog").open;

  const pace = at("pace");
  const seconds = () => Number(pace.value);
  let heard = Date.now();
  let asking = false;
  let missed = 0;
  let timer;

  function beat(kind) {
    at("beat").className = `beat ${kind}`;
  }
  function stale(error) {
    // One answer that is missing may be a connection that broke.
    missed += 1;
    if (missed < 2) return;
    const banner = at("stale");
    banner.textContent = `No answer from this node since ${new Date(heard).toLocaleTimeString()}. What you see may be old. ${error}`;
    banner.hidden = false;
    beat("");
  }

  async function look() {
    if (asking || held()) return beat(still() ? "" : "held");
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Fragment": "1" }, signal: AbortSignal.timeout(10000) });
      if (answer.status === 401) return location.reload();
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (!fresh) throw new Error(`Status ${answer.status}.`);
      heard = Date.now();
      missed = 0;
      at("stale").hidden = true;
      if (held()) return;
      morph(main(), document.adoptNode(fresh));
      document.title = `${main().dataset.title} · Understudy`;
      const badge = at("problems");
      const problems = main().dataset.problems;
      if (badge && problems !== undefined) { badge.textContent = problems; badge.hidden = problems === "0"; }
      dress(main());
      if (stream !== streamed()) tail();
      beat("live hit");
    } catch (error) {
      stale(error.name === "TimeoutError" ? "" : error.message === "Failed to fetch" ? "" : error.message);
    } finally {
      asking = false;
      plan();
    }
  }
  function plan() {
    clearTimeout(timer);
    if (seconds() > 0 && !document.hidden && !still()) timer = setTimeout(() => { look(); plan(); }, seconds() * 1000);
  }

  // --- Events: what happens in the cluster is shown at once, and no more often than once in half a second.
  let events;
  let soon;
  let later;
  function hear({ type }) {
    const topics = main().dataset.topics.split(" ");
    if (seconds() === 0 || !(topics.includes(type) || topics.includes("*"))) return;
    clearTimeout(soon);
    soon = setTimeout(look, 500);
  }
  function listen() {
    clearTimeout(later);
    events?.close();
    events = undefined;
    if (document.hidden || seconds() === 0 || still()) return;
    events = new EventSource("/console/events");
    for (const kind of ["nodes", "leader", "problems", "settings", "jobs", "audit"]) events.addEventListener(kind, hear);
    // A browser comes back by itself after a broken connection, and not after an answer that is none.
    events.addEventListener("error", ({ target }) => { if (target.readyState === EventSource.CLOSED) later = setTimeout(listen, 30000); });
  }
  // --- A log that is followed: each stream begins with the lines that are kept, and brings those that come.
  let lines;
  let stream;
  let anew;
  const streamed = () => document.querySelector("[data-stream]")?.dataset.stream;
  function piece(name, kind, text) {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    element.textContent = text;
    return element;
  }
  function append(place, kind, ...pieces) {
    const line = piece("p", `line ${kind}`, "");
    for (const one of pieces) line.append(one, " ");
    place.append(line);
    while (place.childElementCount > 1000) place.firstElementChild.remove();
    if (follow) place.scrollTop = place.scrollHeight;
  }
  function tail() {
    clearTimeout(anew);
    lines?.close();
    lines = undefined;
    stream = document.hidden || seconds() === 0 ? undefined : streamed();
    if (!stream) return;
    const place = () => document.querySelector("[data-stream]");
    lines = new EventSource(stream);
    lines.addEventListener("open", () => place()?.replaceChildren());
    lines.addEventListener("line", ({ data }) => {
      const { at, level, target, text } = JSON.parse(data);
      if (place()) append(place(), level, piece("time", "", at.slice(11, 23)), piece("span", "level", level), piece("span", "soft", target), piece("span", "", text));
    });
    lines.addEventListener("lost", ({ data }) => { if (place()) append(place(), "warn", piece("span", "", `${JSON.parse(data).lines} lines are missing here: they came too fast.`)); });
    lines.addEventListener("end", () => { lines?.close(); lines = stream = undefined; look(); });
    // As with events; meanwhile the page itself brings the lines that are kept.
    lines.addEventListener("error", ({ target }) => { if (target === lines && target.readyState === EventSource.CLOSED) { lines = undefined; anew = setTimeout(tail, 5000); } });
  }
  function start() {
    tail();
    beat(seconds() > 0 && !still() ? "live" : "");
    plan();
    listen();
  }
  pace.addEventListener("change", () => {
    // Named and bound as the node does it.
    const [name, path] = location.protocol === "https:" ? ["__Host-us_pace", "/; Secure"] : ["us_pace", "/console"];
    document.cookie = `${name}=${seconds()}; Path=${path}; Max-Age=31536000; SameSite=Strict`;
    start();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look();
    start();
  });
  addEventListener("pagehide", () => { events?.close(); lines?.close(); });

  // --- Questions in a dialog; the address of a question is a page of its own for those without.
  const dialog = at("dialog");
  async function ask(address) {
    try {
      const answer = await fetch(address, { headers: { "X-Fragment": "1" } });
      if (answer.status === 401) return location.reload();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const question = page.querySelector(".question");
      if (!question) return location.assign(address);
      question.querySelector("a.button:last-of-type")?.addEventListener("click", (event) => { event.preventDefault(); dialog.close(); });
      dialog.replaceChildren(document.adoptNode(question));
      dialog.setAttribute("aria-label", question.querySelector("h1").textContent);
      dialog.showModal();
      (dialog.querySelector("input:not([type=hidden]), select, textarea") ?? dialog.querySelector("a.button"))?.focus();
    } catch {
      location.assign(address);
    }
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-dialog]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      ask(link.href);
    }
    const copy = event.target.closest?.("[data-copy]");
    if (copy) navigator.clipboard?.writeText(at(copy.dataset.copy).textContent).then(() => { copy.lastChild.textContent = "Copied"; }, () => {});
  });
  // A button that was pressed is not pressed twice by a slip.
  document.addEventListener("submit", ({ target }) => {
    if (target.method === "post") for (const button of target.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
  });
  addEventListener("pageshow", () => { for (const button of document.querySelectorAll("button:disabled")) button.disabled = false; });

  // --- Rows of a long table that have a text in them.
  function filter() {
    const field = document.querySelector("[data-filter]");
    if (!field) return;
    const wanted = field.value.trim().toLowerCase();
    for (const row of at(field.dataset.filter).querySelectorAll("tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  }
  document.addEventListener("input", ({ target }) => { if (target.matches("[data-filter]")) filter(); });

  // --- Keys.
  const keys = at("keys");
  keys.checked = localStorage.getItem("us_keys") !== "off";
  keys.addEventListener("change", () => localStorage.setItem("us_keys", keys.checked ? "on" : "off"));
  let gone = 0;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, select, textarea");
    if (!keys.checked || typing || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (Date.now() - gone < 1500) {
      gone = 0;
      const link = document.querySelector(`#nav a[data-key="${CSS.escape(key)}"]`);
      if (link) { event.preventDefault(); link.click(); }
    } else if (key === "g") {
      gone = Date.now();
    } else if (key === "?") {
      event.preventDefault();
      at("help").togglePopover();
    } else if (key === "/") {
      const field = main().querySelector("input:not([type=hidden]):not([type=checkbox])");
      if (field) { event.preventDefault(); field.focus(); field.select(); }
    } else if (key === "u") {
      look();
    }
  });

  dress(document);
  start();
})();
