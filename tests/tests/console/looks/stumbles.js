// Gives a list of what people would stumble over who do not see the page, see it badly, or use no mouse.
(() => {
  const found = [];
  const say = (what, element) => found.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  const shown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const named = (element) => (element.getAttribute("aria-label") ?? "") + (element.textContent ?? "").trim() + (element.title ?? "")
    + [...(element.labels ?? [])].map((label) => label.textContent.trim()).join("");

  if (document.documentElement.lang !== "en") found.push("no language");
  if (!document.title.trim()) found.push("no title");
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) found.push("not one main");

  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) found.push(`id twice: ${id}`);
  for (const element of document.querySelectorAll("[aria-describedby]")) {
    if (!document.getElementById(element.getAttribute("aria-describedby"))) say("described by nothing", element);
  }
  let level = 1;
  for (const heading of [...document.querySelectorAll("main h1, main h2, main h3")].filter(shown)) {
    const own = Number(heading.nodeName[1]);
    if (own > level + 1) say("a heading skips a level", heading);
    level = own;
  }
  for (const element of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea")) {
    if (shown(element) && !named(element)) say("no name", element);
  }
  for (const image of document.querySelectorAll("svg")) {
    if (image.getAttribute("aria-hidden") !== "true" && !(image.getAttribute("role") === "img" && image.getAttribute("aria-label"))) say("a picture without words", image);
  }
  for (const table of document.querySelectorAll("table")) if (!table.caption) say("a table without a caption", table);

  // What cannot be reached by keys.
  for (const box of document.querySelectorAll(".scroll")) if (box.tabIndex !== 0) say("cannot be scrolled by keys", box);

  // Contrast of text: 4.5 to 1, or 3 to 1 when it is large.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const brightness = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      if (style.backgroundImage !== "none") return undefined;
      const colour = channels(style.backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return channels(getComputedStyle(document.documentElement).backgroundColor);
  };
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || seen.has(element) || !shown(element) || element.closest(".sr, svg, option")) continue;
    seen.add(element);
    const back = behind(element);
    if (!back) continue;
    const style = getComputedStyle(element);
    const [light, dark] = [brightness(channels(style.color)), brightness(back)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < (large ? 3 : 4.5)) say(`contrast ${contrast.toFixed(2)}`, element);
  }

  // What is pressed with a thumb is large enough for it: 24 by 24.
  for (const element of document.querySelectorAll("button, a.button, select, input:not([type=hidden]):not([type=checkbox]), nav a")) {
    if (!shown(element) || element.closest(".sr") || element.matches(".sr")) continue;
    const { width, height } = element.getBoundingClientRect();
    if (width < 24 || height < 24) say(`too small ${width.toFixed()} by ${height.toFixed()}`, element);
  }
  return found;
})()
