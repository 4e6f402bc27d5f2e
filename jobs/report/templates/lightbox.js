// One row, large, with all of its columns.

const lightbox = document.getElementById("lightbox");
const stage = document.getElementById("stage");

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
  const letter = event.key.toLowerCase();
  if (event.key === "ArrowLeft") show(view.current - 1);
  else if (event.key === "ArrowRight") show(view.current + 1);
  else if (letter === "s") change({ mode: view.mode === "side" ? "slide" : "side" });
  else if (letter === "m") change({ mask: !view.mask });
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
