// What a row says and shows. Text of rows only ever becomes text, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const CARD_SCORES = 4;

const value = (row, name) => row.values[name] ?? data.shared[name] ?? null;

const instruction = (row) =>
  value(row, "instruction") || value(row, "target_prompt") || value(row, "caption") || "";

const reasons = (row) => {
  const code = value(row, "error_code");
  return [...(code ? [code] : []), ...(value(row, "reject_reasons") || [])];
};

const methods = (row) => data.methods.map((name) => value(row, name)).filter(Boolean);

const INFINITE = { inf: Infinity, "-inf": -Infinity, nan: null };

const numeric = (row, name) => {
  const found = value(row, name);
  return found in INFINITE ? INFINITE[found] : found;
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
