// The page's one script: it keeps a page up to date, filters tables, draws the lineage. Whatever comes from runs is
// put in as text, or as HTML that the server has escaped.
"use strict";

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

/** What an address answers; an error with the server's sentence where it refuses. */
async function ask(address, options = {}) {
  const response = await fetch(address, { cache: "no-store", ...options });
  if (!response.ok) throw new Error((await response.text()).slice(0, 500).trim());
  return response;
}

const NOT_THERE = () =>
  `The server of this page does not answer. What is shown is as of ${lastHeard.toLocaleTimeString()}; it goes on by itself once the server is back.`;
let lastHeard = new Date();

function notice(sentence) {
  const place = $("#notice");
  place.hidden = !sentence;
  if (place.textContent !== sentence) place.textContent = sentence;
}

/** The sentence for what went wrong with a request. */
const inWords = (error) => (error instanceof TypeError ? NOT_THERE() : error.message);

const inTime = (seconds) => {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
};

/** Listen to what the server says; `heard` gets each message. */
function listen(address, heard) {
  let trouble = "";
  const source = new EventSource(address);
  source.onmessage = (message) => {
    lastHeard = new Date();
    const said = JSON.parse(message.data);
    trouble = said.trouble || "";
    notice(trouble);
    if (!trouble) heard(said);
  };
  source.onopen = () => notice(trouble);
  source.onerror = async () => {
    if (source.readyState !== EventSource.CLOSED) {
      notice(NOT_THERE());
      return;
    }
    try {
      await ask(address, { signal: AbortSignal.timeout(2000) });
    } catch (error) {
      notice(inWords(error).replace(/^403: /, "This page is out of date: "));
    }
  };
  addEventListener("pagehide", () => source.close());
}

/** Replace a part of the page, keeping open what was open. */
function replace(place, html) {
  const name = (each) => $("summary", each)?.textContent.replace(/\d+/g, "").slice(0, 60);
  const open = new Set($$("details[open]", place).map(name));
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.innerHTML = html;
  for (const each of $$("details", place)) if (open.has(name(each))) each.open = true;
  if (focused) document.getElementById(focused)?.focus();
}

// -- the list of runs ---------------------------------------------------------------------------------

function runList() {
  const table = $("#runs");
  if (!table) return;
  const filter = $("#run-filter"), state = $("#run-state"), compare = $("#compare"), picked = $("#picked");
  let order = { key: "begun", down: true };
  const value = (row, key) => {
    const text = row.dataset[key] || "";
    return text !== "" && !isNaN(text) ? Number(text) : text.toLowerCase();
  };
  function arrange() {
    const rows = $$("tbody tr", table);
    const sign = order.down ? -1 : 1;
    rows.sort((a, b) => {
      const [x, y] = [value(a, order.key), value(b, order.key)];
      if (x === y) return 0;
      // What has no value comes last either way.
      if (x === "") return 1;
      if (y === "") return -1;
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      return (x < y ? -1 : 1) * sign;
    });
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = ["name", "problem", "model", "variant", "state"].map((key) => row.dataset[key]).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word)) || (state.value !== "" && row.dataset.state !== state.value);
      row.parentNode.append(row);
    }
    for (const button of $$("thead button", table)) {
      const head = button.closest("th");
      if (button.dataset.sort === order.key) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    count();
  }
  function count() {
    const chosen = $$("input[name=run]:checked", table).length;
    compare.disabled = chosen < 2;
    picked.textContent = chosen ? `${chosen} picked` : "Pick two runs or more to compare them.";
  }
  table.addEventListener("click", (event) => {
    const key = event.target.closest("thead button")?.dataset.sort;
    if (!key) return;
    order = { key, down: order.key === key ? !order.down : false };
    arrange();
  });
  table.addEventListener("change", count);
  filter.addEventListener("input", arrange);
  state.addEventListener("change", arrange);
  $("#pick-runs").addEventListener("submit", (event) => { if (compare.disabled) event.preventDefault(); });
  arrange();
  let version = null;
  listen(document.body.dataset.stream, async (said) => {
    const first = version === null;
    if (said.version === version) return;
    version = said.version;
    if (first) return;
    try {
      const rows = await (await ask(table.dataset.rows)).text();
      const chosen = new Set($$("input[name=run]:checked", table).map((each) => each.value));
      const focused = table.contains(document.activeElement) ? document.activeElement.value || document.activeElement.getAttribute("href") : null;
      $("tbody", table).innerHTML = rows;
      for (const each of $$("input[name=run]", table)) each.checked = chosen.has(each.value);
      $("#no-runs").hidden = Boolean($("tbody tr", table));
      arrange();
      if (focused) $$("tbody a, tbody input", table).find((each) => (each.value || each.getAttribute("href")) === focused)?.focus();
    } catch (error) { notice(inWords(error)); }
  });
}

// -- a run, live --------------------------------------------------------------------------------------

function liveRun() {
  const part = $("#part");
  if (!part) return;
  let shown = null, asking = false;
  async function refresh(version) {
    if (asking || shown === version) return;
    asking = true;
    try {
      const html = await (await ask(part.dataset.part)).text();
      const anchored = shown === null && location.hash;
      replace(part, html);
      part.setAttribute("aria-busy", "false");
      shown = version;
      if (anchored) $(location.hash)?.scrollIntoView();
    } catch (error) { notice(inWords(error)); }
    asking = false;
  }
  const set = (name, text) => { const place = $(`[data-now="${name}"]`); if (place.textContent !== text) place.textContent = text; };
  refresh("");
  listen(document.body.dataset.stream, (now) => {
    set("state", now.state);
    set("sentence", now.sentence);
    set("steps", `${now.done} of ${now.steps}`);
    set("best", now.best === null ? "–" : now.best);
    set("left", inTime(now.seconds_left));
    const bar = $('[data-now="progress"]');
    bar.max = now.steps || 1;
    bar.value = now.done;
    document.title = `${now.done}/${now.steps} ${$("h1").textContent} · ttd`;
    underWay(now.under_way, set);
    $("#stop").disabled = now.state !== "running";
    const version = now.version.join(" ");
    // The sections asked for at first are those of the version that is told first.
    if (shown === "") shown = version;
    else if (shown !== null) refresh(version);
  });
}

// The two things that this page may ask of a run.
function doors() {
  const form = $("#hint-form");
  if (!form) return;
  const said = $("#door-said"), stop = $("#stop");
  async function post(path, asked) {
    said.textContent = "";
    const body = JSON.stringify({ run: form.dataset.run, ...asked });
    try {
      said.textContent = await (await ask(path, { method: "POST", body, headers: { "content-type": "application/json" } })).text();
      replace($("#hints"), await (await ask($("#hints").dataset.part)).text());
      return true;
    } catch (error) {
      said.textContent = inWords(error);
      return false;
    }
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await post("/hint", { text: $("#hint-text").value })) form.reset();
  });
  $("#hints").addEventListener("click", (event) => {
    const number = event.target.closest("button[data-unhint]")?.dataset.unhint;
    if (number) post("/unhint", { number: Number(number) });
  });
  stop.addEventListener("click", () => {
    // One press too many is easily made: it takes a second one.
    if (stop.dataset.sure) {
      delete stop.dataset.sure;
      stop.textContent = "Stop after this step";
      post("/stop", {});
    } else {
      stop.dataset.sure = "yes";
      stop.textContent = "Press again to stop the run";
      setTimeout(() => { delete stop.dataset.sure; stop.textContent = "Stop after this step"; }, 5000);
    }
  });
}

function underWay(step, set) {
  $("#under-way").hidden = !step;
  if (!step) return;
  const all = step.groups * step.group_size;
  set("step", `Step ${step.step}`);
  const speed = step.tokens_per_s ? `, ${step.tokens_per_s.toLocaleString("en")} tokens a second` : "";
  const counts = `${step.sampled} sampled, ${step.judged} judged and ${step.valid} valid of ${all}; ${inTime(step.seconds)} so far${speed}`;
  set("counts", counts);
  const cells = $("#cells");
  cells.setAttribute("aria-label", `The step's rollouts: ${step.sampled} sampled, ${step.judged} judged, ${step.valid} valid of ${all}`);
  // A row for each group, where its rollouts fit beside each other.
  cells.classList.toggle("by-group", step.group_size >= 8 && step.group_size <= (cells.clientWidth > 500 ? 64 : 32));
  cells.style.setProperty("--across", step.group_size);
  while (cells.childElementCount < step.cells.length) cells.append(document.createElement("i"));
  while (cells.childElementCount > step.cells.length) cells.lastChild.remove();
  [...step.cells].forEach((letter, place) => {
    const kind = letter === "." ? "" : letter;
    if (cells.children[place].className !== kind) cells.children[place].className = kind;
  });
  const rows = step.latest.map((each) => {
    const row = document.createElement("tr");
    [each.place, each.status, each.score ?? "–", each.seconds.toFixed(2), each.message].forEach((text, place) => {
      const cell = document.createElement(place ? "td" : "th");
      if (!place) cell.scope = "row";
      cell.className = ["", `verdict ${each.status.replaceAll(" ", "_")}`, "n", "n more", "message"][place];
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  });
  $("#latest").replaceChildren(...rows);
}

// -- rollouts -----------------------------------------------------------------------------------------

function rolloutList() {
  const form = $("#rollout-controls");
  if (!form) return;
  const place = $("#rollout-rows");
  let asked = 0, waiting = 0;
  const address = (page) => {
    const parameters = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...parameters]) if (!value) parameters.delete(name);
    if (page > 1) parameters.set("page", page);
    return parameters;
  };
  async function show(page = 1) {
    const parameters = address(page), number = ++asked;
    place.setAttribute("aria-busy", "true");
    try {
      const html = await (await ask(`${form.dataset.rows}?${parameters}`)).text();
      if (number !== asked) return;
      place.innerHTML = html;
      history.replaceState(null, "", `?${parameters}`);
      notice("");
    } catch (error) { if (number === asked) notice(inWords(error)); }
    if (number === asked) place.removeAttribute("aria-busy");
  }
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(show, 150); };
  form.addEventListener("input", soon);
  form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(waiting); show(); });
  place.addEventListener("click", async (event) => {
    const page = event.target.closest("a[data-page]")?.dataset.page;
    if (!page || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    await show(Number(page));
    $("#found").scrollIntoView({ block: "center" });
  });
}

function oneRollout() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-all]");
    if (!button) return;
    button.disabled = true;
    try {
      document.getElementById(button.dataset.into).textContent = await (await ask(button.dataset.all)).text();
      button.remove();
    } catch (error) { button.disabled = false; notice(inWords(error)); }
  });
  document.addEventListener("change", (event) => {
    const choice = event.target.closest("select[data-colours]");
    if (choice) document.getElementById(choice.dataset.colours).className = `code wrapped tokens ${choice.value}`;
  });
  if (!$(".members")) return;
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, pre, .scroll")) return;
    const link = { ArrowLeft: 'a[rel="prev"]', ArrowRight: 'a[rel="next"]' }[event.key];
    if (link) $(`.members ${link}`)?.click();
  });
}

// -- the lineage --------------------------------------------------------------------------------------

class Lineage {
  constructor(place) {
    this.place = place;
    this.canvas = $("canvas", place);
    this.pen = this.canvas.getContext("2d");
    this.colour = "score";
    this.chosen = null;
    this.view = { x: 0, y: 0, kx: 1, ky: 1 };
    this.pointers = new Map();
    this.asked = 0;
  }

  async load() {
    this.data = await (await ask(this.place.dataset.tree)).json();
    const d = this.data;
    this.index = new Map(d.id.map((id, place) => [id, place]));
    this.children = d.id.map(() => []);
    d.parent.forEach((parent, place) => { if (parent !== null) this.children[this.index.get(parent)].push(place); });
    this.onPath = new Set(d.path);
    this.mostVisits = Math.max(1, ...d.visits);
  }

  start() {
    this.readColours();
    new ResizeObserver(() => this.resize()).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.readColours(); this.draw(); });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.002), event.offsetX, event.offsetY);
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, (event) => this.up(event));
    $("#tree-colour").addEventListener("change", (event) => { this.colour = event.target.value; this.legend(); this.draw(); });
    $("#tree-in").addEventListener("click", () => this.zoom(1.5));
    $("#tree-out").addEventListener("click", () => this.zoom(1 / 1.5));
    $("#tree-fit").addEventListener("click", () => this.fit());
    $("#tree-best").addEventListener("click", () => this.choose(this.data.best));
    $("#tree-controls").addEventListener("submit", (event) => {
      event.preventDefault();
      const node = Number($("#tree-node").value);
      if (this.index.has(node)) this.choose(node);
      else this.say(`There is no node ${$("#tree-node").value}.`);
    });
    $("#state").addEventListener("click", (event) => {
      const node = event.target.closest("a[data-node]")?.dataset.node;
      if (node) { event.preventDefault(); this.choose(Number(node)); }
    });
    addEventListener("hashchange", () => this.fromAddress());
    this.legend();
    this.resize();
    this.fromAddress();
  }

  fromAddress() {
    const node = Number(/^#node=(\d+)$/.exec(location.hash)?.[1] ?? NaN);
    if (this.index.has(node)) this.choose(node, true);
    else if (this.chosen === null && this.data.best !== null) this.choose(this.data.best, true);
    else if (this.chosen === null) $("#state").textContent = "No state is scored yet.";
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    this.ink = Object.fromEntries(["page", "ink", "soft", "hair", "c1", "c2", "c3", "c6", "s1", "s2", "s3", "s4", "s5", "ok", "f1", "f4"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.ramp = [1, 2, 3, 4, 5].map((shade) => this.ink[`s${shade}`]);
  }

  /** The colour of a node, by what was chosen. */
  fill(place) {
    const d = this.data, shade = (share) => this.ramp[Math.min(4, Math.floor(share * 5))];
    if (this.colour === "score") return d.rank[place] < 0 ? this.ink.hair : shade(d.rank[place]);
    if (this.colour === "step") return shade(d.step[place] / Math.max(1, d.last_step));
    if (this.colour === "visits") return shade(Math.log1p(d.visits[place]) / Math.log1p(this.mostVisits));
    return [this.ink.ok, this.ink.f1, this.ink.f4][d.place[place]];
  }

  legend() {
    const entries = {
      score: [["s1", "lowest score"], ["s5", "best score"]],
      step: [["s1", "first steps"], ["s5", "last steps"]],
      visits: [["s1", "never visited"], ["s5", "visited most"]],
      place: [["ok", "held"], ["f1", "kept for its descendants"], ["f4", "dropped"]],
    }[this.colour];
    $("#tree-legend").replaceChildren(...[["on-path-key", "path to the best"], ...entries].map(([kind, name]) => {
      const entry = document.createElement("li"), key = document.createElement("span");
      key.className = `key ${kind}`;
      key.setAttribute("aria-hidden", "true");
      entry.append(key, name);
      return entry;
    }));
  }

  resize() {
    const box = this.place.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    const first = !this.width;
    [this.width, this.height] = [box.width - 2, box.height - 2];
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (first) this.fit();
    else this.draw();
  }

  fit() {
    const d = this.data;
    this.view = { x: 24, y: 14, kx: (this.width - 48) / Math.max(1, d.last_step), ky: (this.height - 40) / Math.max(1, d.leaves) };
    this.draw();
  }

  at(place) {
    const d = this.data, v = this.view;
    return [v.x + d.step[place] * v.kx, v.y + (d.row[place] + 0.5) * v.ky];
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const v = this.view;
    const limit = (scale, most) => Math.min(most, Math.max(0.02, scale * factor)) / scale;
    const [fx, fy] = [limit(v.kx, 400), limit(v.ky, 60)];
    v.x = x - (x - v.x) * fx;
    v.y = y - (y - v.y) * fy;
    v.kx *= fx;
    v.ky *= fy;
    this.draw();
  }

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => { this.drawing = 0; this.paint(); });
  }

  paint() {
    const pen = this.pen, d = this.data, v = this.view, seen = [];
    pen.clearRect(0, 0, this.width, this.height);
    this.paintSteps();
    const radius = Math.max(1.6, Math.min(7, v.ky * 0.38, v.kx * 0.3));
    const curve = (from, to) => {
      const [x1, y1] = this.at(from), [x2, y2] = this.at(to), middle = (x1 + x2) / 2;
      if (Math.max(x1, x2) < 0 || Math.min(x1, x2) > this.width || Math.max(y1, y2) < 0 || Math.min(y1, y2) > this.height) return;
      pen.moveTo(x1, y1);
      pen.bezierCurveTo(middle, y1, middle, y2, x2, y2);
    };
    const edges = (wanted, colour, width, alpha) => {
      pen.beginPath();
      d.id.forEach((id, place) => {
        if (d.parent[place] !== null && this.onPath.has(id) === wanted) curve(this.index.get(d.parent[place]), place);
      });
      Object.assign(pen, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
      pen.stroke();
    };
    edges(false, this.ink.soft, 1, 0.35);
    edges(true, this.ink.c2, 2, 1);
    pen.globalAlpha = 1;
    const byColour = new Map();
    d.id.forEach((id, place) => {
      const [x, y] = this.at(place);
      if (x < -9 || y < -9 || x > this.width + 9 || y > this.height + 9) return;
      seen.push(place);
      const colour = this.fill(place);
      if (!byColour.has(colour)) byColour.set(colour, []);
      byColour.get(colour).push([x, y, this.onPath.has(id) ? radius + 1.2 : radius]);
    });
    for (const [colour, nodes] of byColour) {
      pen.beginPath();
      for (const [x, y, r] of nodes) { pen.moveTo(x + r, y); pen.arc(x, y, r, 0, 7); }
      pen.fillStyle = colour;
      pen.fill();
    }
    this.seen = seen;
    if (this.chosen !== null) {
      const [x, y] = this.at(this.index.get(this.chosen));
      pen.beginPath();
      pen.arc(x, y, radius + 5, 0, 7);
      Object.assign(pen, { strokeStyle: this.ink.ink, lineWidth: 2 });
      pen.stroke();
    }
  }

  paintSteps() {
    const pen = this.pen, v = this.view, d = this.data;
    const apart = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((each) => each * v.kx >= 56) || 2000;
    Object.assign(pen, { strokeStyle: this.ink.hair, fillStyle: this.ink.soft, lineWidth: 1, font: "11px system-ui, sans-serif", textAlign: "center" });
    pen.beginPath();
    for (let step = 0; step <= d.last_step; step += apart) {
      const x = v.x + step * v.kx;
      if (x < 0 || x > this.width) continue;
      pen.moveTo(x, 0);
      pen.lineTo(x, this.height - 18);
      pen.fillText(step ? `step ${step}` : "seeds", Math.min(this.width - 22, Math.max(20, x)), this.height - 5);
    }
    pen.stroke();
  }

  nearest(x, y) {
    let best = null, least = 14 ** 2;
    for (const place of this.seen || []) {
      const [nx, ny] = this.at(place), away = (nx - x) ** 2 + (ny - y) ** 2;
      if (away < least) [best, least] = [place, away];
    }
    return best;
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = this.pointers.size > 1 ? 99 : 0;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.offsetX, event.offsetY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
      this.zoom(apart(now, other) / apart(before, other), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    const share = other ? 0.5 : 1;
    this.view.x += (now[0] - before[0]) * share;
    this.view.y += (now[1] - before[1]) * share;
    this.moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    this.pointers.set(event.pointerId, now);
    this.draw();
  }

  up(event) {
    const was = this.pointers.delete(event.pointerId);
    if (!was || event.type === "pointercancel" || this.moved > 5) return;
    const place = this.nearest(event.offsetX, event.offsetY);
    if (place !== null) this.choose(this.data.id[place]);
  }

  key(event) {
    const d = this.data, here = this.chosen === null ? 0 : this.index.get(this.chosen);
    const parent = d.parent[here] === null ? null : this.index.get(d.parent[here]);
    const byRow = (places) => [...places].sort((a, b) => d.row[a] - d.row[b]);
    const beside = (way) => {
      const near = byRow(d.id.map((_, place) => place).filter((place) => d.step[place] === d.step[here]));
      return near[near.indexOf(here) + way];
    };
    const children = byRow(this.children[here]);
    const acts = {
      ArrowLeft: () => parent,
      ArrowRight: () => children.find((place) => this.onPath.has(d.id[place])) ?? children[0],
      ArrowUp: () => beside(-1),
      ArrowDown: () => beside(1),
      Home: () => this.index.get(d.best),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => this.fit(),
      Enter: () => $("#state").focus(),
    };
    if (!acts[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const place = acts[event.key]();
    if (place !== undefined && place !== null) this.choose(d.id[place], true);
  }

  say(sentence) { $("#tree-said").textContent = sentence; }

  /** Choose a node: draw it so, bring it into sight where `reveal`, and show what it is. */
  async choose(node, reveal = false) {
    if (node === null || !this.index.has(node)) return;
    this.chosen = node;
    const place = this.index.get(node), d = this.data;
    if (reveal) {
      const [x, y] = this.at(place);
      if (x < 10 || x > this.width - 10) this.view.x += this.width / 2 - x;
      if (y < 10 || y > this.height - 30) this.view.y += this.height / 2 - y;
    }
    this.draw();
    this.say(`Node ${node}, ${d.metric} ${d.score[place] ?? "none"}, step ${d.step[place]}, ${d.visits[place]} visits, ${d.places[d.place[place]]}`);
    history.replaceState(null, "", `#node=${node}`);
    const number = ++this.asked;
    try {
      const html = await (await ask(`${this.place.dataset.state}&node=${node}`)).text();
      if (number !== this.asked) return;
      replace($("#state"), html);
      $("#state").scrollTop = 0;
    } catch (error) { if (number === this.asked) notice(inWords(error)); }
  }
}

async function lineagePage() {
  const place = $("#tree");
  if (!place) return;
  const tree = new Lineage(place);
  try {
    await tree.load();
  } catch (error) {
    notice(inWords(error));
    $("#state").textContent = "";
    return;
  }
  tree.start();
  let version = null, loading = false;
  listen(document.body.dataset.stream, async (now) => {
    const said = String(now.done);
    if (version === null || said === version || loading) { version ??= said; return; }
    loading = true;
    try {
      await tree.load();
      version = said;
      tree.draw();
    } catch (error) { notice(inWords(error)); }
    loading = false;
  });
}

runList();
liveRun();
doors();
rolloutList();
oneRollout();
lineagePage();
