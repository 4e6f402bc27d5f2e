"use strict";

// The gallery and its lightbox. Text of rows only ever becomes text, never markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 48;
  const CARD_SCORES = 4;
  const form = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const lightbox = document.getElementById("lightbox");
  const stage = document.getElementById("stage");
  const view = { rows: [], shown: 0, current: -1, mode: "slide", mask: false, split: 50 };

  // ---- rows

  const value = (row, name) => row.values[name] ?? data.shared[name] ?? null;

  const instruction = (row) =>
    value(row, "instruction") || value(row, "target_prompt") || value(row, "caption") || "";

  const reasons = (row) => {
    const code = value(row, "error_code");
    return [...(code ? [code] : []), ...(value(row, "reject_reasons") || [])];
  };

  const numeric = (row, name) => {
    const found = value(row, name);
    return found === null ? null : typeof found === "boolean" ? Number(found) : Number(found);
  };

  const short = (number) => {
    if (typeof number === "boolean") return number ? "yes" : "no";
    if (typeof number !== "number") return number === null ? "–" : String(number);
    if (Number.isInteger(number) && Math.abs(number) < 1e6) return String(number);
    const text = Math.abs(number) >= 1000 ? number.toFixed(0) : number.toPrecision(3);
    return text.replace("-", "−");
  };

  const isBroken = (row, name) => {
    const bounds = data.policy[name];
    const found = numeric(row, name);
    if (!bounds || found === null) return false;
    return (bounds.min !== undefined && !(found >= bounds.min))
      || (bounds.max !== undefined && !(found <= bounds.max));
  };

  const scores = (row) => data.scores.filter((name) => value(row, name) !== null);

  // ---- elements

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const add = (parent, ...children) => {
    parent.append(...children.filter(Boolean));
    return parent;
  };

  const thumbnail = (row, name) => data.thumbnails[row.images[name]] ?? null;

  const picture = (found, label) => {
    const [uri, width, height, isCrisp] = found;
    const image = make("img", isCrisp ? "crisp" : "");
    image.src = uri;
    image.width = width;
    image.height = height;
    image.alt = label;
    image.decoding = "async";
    return image;
  };

  const absent = (row, name) => {
    const texts = { source: "source cannot be shown", mask: "no mask", edited: "no edited image" };
    const isStored = row.images[name] !== undefined && name !== "source";
    return make("span", "absent", isStored ? `${name} cannot be shown` : texts[name]);
  };

  // The mask as a coat of paint over what lies below it.
  const coat = (found) => {
    const paint = make("span", "coat");
    const url = `url("${found[0]}")`;
    paint.style.maskImage = url;
    paint.style.webkitMaskImage = url;
    if (found[3]) paint.classList.add("crisp");
    return paint;
  };

  const tile = (row, name) => {
    const frame = make("span", `tile ${name}`);
    const found = thumbnail(row, name);
    const source = thumbnail(row, "source");
    if (name === "mask" && found) {
      const below = source && picture(source, "");
      const box = make("span", "masked");
      add(box, below, coat(found));
      if (!below) box.style.aspectRatio = `${found[1]} / ${found[2]}`;
      add(frame, box);
    } else {
      add(frame, found ? picture(found, `${name} image`) : absent(row, name));
    }
    return frame;
  };

  const ending = (row) => {
    const where = value(row, "stage");
    const code = value(row, "error_code");
    const message = value(row, "error_message");
    if (where) return `${where}: ${[code, message].filter(Boolean).join(" · ")}`;
    return (value(row, "reject_reasons") || []).join(" · ");
  };

  const statusLine = (row) => {
    const status = value(row, "status");
    const line = make("p", "status");
    add(line, make("span", `dot ${status}`), make("span", "", status));
    const type = value(row, "edit_type");
    if (type) add(line, make("span", "type", type));
    const candidate = value(row, "candidate");
    if (candidate) add(line, make("span", "quiet", `candidate ${candidate}`));
    return line;
  };

  const reasonLine = (row) => {
    const text = ending(row);
    return text ? make("p", `reason ${value(row, "status")}`, text) : null;
  };

  const scoreList = (row, names) => {
    const list = make("dl", "scores");
    for (const name of names) {
      const pair = make("div", isBroken(row, name) ? "broken" : "");
      add(pair, make("dt", "", name), make("dd", "", short(value(row, name))));
      add(list, pair);
    }
    return list;
  };

  const cardScores = (row) => {
    const chosen = [form.elements.sort.value, ...Object.keys(data.policy), "truth_gain"];
    const ranked = [...chosen, ...data.scores];
    const present = scores(row);
    return [...new Set(ranked)].filter((name) => present.includes(name)).slice(0, CARD_SCORES);
  };

  const card = (row, place) => {
    const element = make("article", "card");
    element.dataset.key = value(row, "key");
    const open = make("button", "tiles");
    open.type = "button";
    open.setAttribute("aria-label", `Open: ${instruction(row) || value(row, "key")}`);
    add(open, tile(row, "source"), tile(row, "mask"), tile(row, "edited"));
    open.addEventListener("click", () => show(place));
    const text = make("div", "words");
    add(text, make("p", "instruction", instruction(row)), statusLine(row), reasonLine(row));
    add(text, scoreList(row, cardScores(row)));
    return add(element, open, text);
  };

  // ---- filters

  const tally = (values) => {
    const counts = new Map();
    for (const one of values) counts.set(one, (counts.get(one) || 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || String(a[0]).localeCompare(String(b[0])));
  };

  const fill = (name, every, pairs) => {
    const select = form.elements[name];
    add(select, new Option(every, ""));
    for (const [label, number] of pairs) add(select, new Option(`${label} (${number})`, label));
    select.hidden = pairs.length === 0;
  };

  const matches = (row) => {
    const wanted = form.elements;
    const text = wanted.text.value.trim().toLowerCase();
    const has = (name, found) => !wanted[name].value || found.includes(wanted[name].value);
    return has("status", [value(row, "status")])
      && has("type", [value(row, "edit_type")])
      && has("stage", [value(row, "stage")])
      && has("reason", reasons(row))
      && (!text || `${instruction(row)}\n${value(row, "key")}`.toLowerCase().includes(text));
  };

  const sorted = (rows) => {
    const name = form.elements.sort.value;
    const sign = form.elements.descending.checked ? -1 : 1;
    if (!name) return sign === 1 ? rows : [...rows].reverse();
    const known = rows.filter((row) => numeric(row, name) !== null);
    const unknown = rows.filter((row) => numeric(row, name) === null);
    known.sort((a, b) => sign * (numeric(a, name) - numeric(b, name)));
    return [...known, ...unknown];
  };

  const grow = () => {
    const end = Math.min(view.rows.length, view.shown + PAGE);
    for (let place = view.shown; place < end; place += 1) {
      add(cards, card(view.rows[place], place));
    }
    view.shown = end;
    more.hidden = end === view.rows.length;
  };

  const refresh = () => {
    view.rows = sorted(data.rows.filter(matches));
    view.shown = 0;
    cards.replaceChildren();
    cards.classList.toggle("plain", form.elements.plain.checked);
    grow();
    document.getElementById("count").textContent =
      `${view.rows.length} of ${data.rows.length} rows`;
    for (const select of form.querySelectorAll("select")) {
      select.classList.toggle("active", select.value !== "");
    }
    document.getElementById("nothing").hidden = view.rows.length > 0 || data.rows.length === 0;
  };

  const choose = (wanted) => {
    form.reset();
    for (const [name, text] of Object.entries(wanted)) {
      const select = form.elements[name];
      if (![...select.options].some((option) => option.value === text)) {
        add(select, new Option(`${text} (0)`, text));
      }
      select.value = text;
    }
    refresh();
    document.getElementById("gallery").scrollIntoView();
  };

  // ---- lightbox

  const figure = (row, name) => {
    const box = make("figure", name);
    return add(box, tile(row, name), make("figcaption", "", name));
  };

  const slider = (row) => {
    const before = thumbnail(row, "source");
    const after = thumbnail(row, "edited");
    const box = make("div", "compare");
    box.style.aspectRatio = `${before[1]} / ${before[2]}`;
    box.style.setProperty("--wide", before[1] / before[2]);
    const top = picture(after, "edited image");
    top.classList.add("after");
    const mask = thumbnail(row, "mask");
    const paint = mask && coat(mask);
    const line = make("span", "divider");
    const range = make("input");
    range.type = "range";
    range.min = 0;
    range.max = 100;
    range.value = view.split;
    range.setAttribute("aria-label", "Share of the source");
    const move = () => {
      view.split = Number(range.value);
      top.style.clipPath = `inset(0 0 0 ${view.split}%)`;
      line.style.left = `${view.split}%`;
    };
    range.addEventListener("input", move);
    move();
    add(box, picture(before, "source image"), top, paint, line);
    add(box, make("span", "corner left", "source"), make("span", "corner right", "edited"));
    return add(box, range);
  };

  const drawStage = (row) => {
    stage.className = `stage ${view.mask ? "with-mask" : ""}`;
    const canSlide = thumbnail(row, "source") && thumbnail(row, "edited");
    if (view.mode === "slide" && canSlide) {
      stage.replaceChildren(slider(row));
      return;
    }
    const side = make("div", "side");
    stage.replaceChildren(add(side, ...["source", "mask", "edited"].map((n) => figure(row, n))));
  };

  const replayLine = (row) => {
    const command = `${data.replay} ${value(row, "key")}`;
    const line = make("div", "replay");
    const copy = make("button", "", "Copy");
    const code = make("code", "", command);
    copy.type = "button";
    copy.addEventListener("click", async () => {
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(command);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Selected";
      }
    });
    return add(line, code, copy);
  };

  const plain = (found) =>
    Array.isArray(found) ? found.join(" · ") : typeof found === "number" ? String(found) : found;

  const columnList = (row) => {
    const list = make("dl", "pairs");
    const told = new Set(["instruction", ...data.scores]);
    const every = { ...row.values, ...data.shared };
    for (const name of data.columns.filter((one) => one in every && !told.has(one))) {
      const pair = make("div");
      const text = typeof every[name] === "boolean" ? short(every[name]) : plain(every[name]);
      add(list, add(pair, make("dt", "", name), make("dd", "", text)));
    }
    return list;
  };

  const drawDetails = (row) => {
    const details = document.getElementById("details");
    const title = make("h2", "", instruction(row) || value(row, "key"));
    title.id = "lightbox-title";
    details.replaceChildren();
    add(details, title, statusLine(row), reasonLine(row));
    if (scores(row).length) add(details, scoreList(row, scores(row)));
    add(details, make("h3", "", "Do it again"), replayLine(row));
    add(details, make("h3", "", "Columns"), columnList(row));
    details.scrollTop = 0;
  };

  const draw = () => {
    const row = view.rows[view.current];
    drawStage(row);
    drawDetails(row);
    document.getElementById("lightbox-place").textContent =
      `${view.current + 1} of ${view.rows.length}`;
    document.getElementById("previous").disabled = view.current === 0;
    document.getElementById("next").disabled = view.current === view.rows.length - 1;
    for (const button of lightbox.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === view.mode));
    }
    document.getElementById("mask-toggle").setAttribute("aria-pressed", String(view.mask));
    history.replaceState(null, "", `#${value(row, "key")}`);
  };

  const show = (place) => {
    if (place < 0 || place >= view.rows.length) return;
    view.current = place;
    if (!lightbox.open) {
      lightbox.showModal();
      lightbox.focus();
    }
    draw();
  };

  const change = (values) => {
    Object.assign(view, values);
    draw();
  };

  const peek = (isSource) => stage.classList.toggle("peek", isSource);

  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isButton = event.target.tagName === "BUTTON";
    if (event.key === "ArrowLeft") show(view.current - 1);
    else if (event.key === "ArrowRight") show(view.current + 1);
    else if (event.key === "s") change({ mode: view.mode === "side" ? "slide" : "side" });
    else if (event.key === "m") change({ mask: !view.mask });
    else if (event.key === " " && !isButton) peek(true);
    else return;
    event.preventDefault();
  };

  const onClose = () => {
    const row = view.rows[view.current];
    history.replaceState(null, "", location.pathname + location.search);
    if (!row) return;
    while (view.shown <= view.current) grow();
    const open = cards.children[view.current].querySelector("button");
    open.scrollIntoView({ block: "nearest" });
    open.focus();
  };

  // ---- start

  fill("status", "any status", tally(data.rows.map((row) => value(row, "status"))));
  fill("type", "any edit type", tally(data.rows.map((row) => value(row, "edit_type")).filter(Boolean)));
  fill("stage", "any stage", tally(data.rows.map((row) => value(row, "stage")).filter(Boolean)));
  fill("reason", "any reason", tally(data.rows.flatMap(reasons)));
  add(form.elements.sort, new Option("in the plan's order", ""));
  for (const name of data.scores) add(form.elements.sort, new Option(`by ${name}`, name));
  form.hidden = data.rows.length === 0;

  form.addEventListener("input", refresh);
  form.addEventListener("reset", () => setTimeout(refresh));
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", grow);
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && grow(),
    { rootMargin: "800px" }).observe(more);
  for (const button of document.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => choose(JSON.parse(button.dataset.choose)));
  }
  for (const button of lightbox.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => change({ mode: button.dataset.view }));
  }
  document.getElementById("mask-toggle").addEventListener("click", () => change({ mask: !view.mask }));
  document.getElementById("previous").addEventListener("click", () => show(view.current - 1));
  document.getElementById("next").addEventListener("click", () => show(view.current + 1));
  document.getElementById("close").addEventListener("click", () => lightbox.close());
  lightbox.addEventListener("keydown", onKey);
  lightbox.addEventListener("keyup", (event) => event.key === " " && peek(false));
  lightbox.addEventListener("close", onClose);
  lightbox.addEventListener("click", (event) => event.target === lightbox && lightbox.close());
  refresh();
  const asked = view.rows.findIndex((row) => `#${value(row, "key")}` === location.hash);
  if (asked >= 0) show(asked);
})();
