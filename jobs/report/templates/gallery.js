// The rows as cards, and the filters over them.

const PAGE = 48;
const form = document.getElementById("filters");
const cards = document.getElementById("cards");
const more = document.getElementById("more");
const view = { rows: [], shown: 0, current: -1, mode: "slide", mask: false, split: 50 };

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
    && has("method", methods(row))
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
  known.sort((a, b) => {
    const [first, second] = [numeric(a, name), numeric(b, name)];
    return first === second ? 0 : first < second ? -sign : sign;
  });
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

// ---- start

fill("status", "any status", tally(data.rows.map((row) => value(row, "status"))));
fill("type", "any edit type", tally(data.rows.map((row) => value(row, "edit_type")).filter(Boolean)));
const counted = tally(data.rows.flatMap(methods));
fill("method", "any method", counted.length > 1 ? counted : []);
fill("stage", "any stage", tally(data.rows.map((row) => value(row, "stage")).filter(Boolean)));
fill("reason", "any reason", tally(data.rows.flatMap(reasons)));
add(form.elements.sort, new Option("in the plan's order", ""));
for (const name of data.scores) add(form.elements.sort, new Option(`by ${name}`, name));
form.hidden = data.rows.length === 0;

form.elements.text.addEventListener("input", refresh);
for (const one of form.querySelectorAll("select, [type=checkbox]")) {
  one.addEventListener("change", refresh);
}
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
