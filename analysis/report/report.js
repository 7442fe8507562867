"use strict";
// Everything from a run is put into the page with textContent: it is shown, never interpreted.
const PAGE = 150, MOST_PRINTED = 40;
const byId = (id) => document.getElementById(id);
const FILTERS = ["run", "source", "step", "task", "outcome", "text"];
const CHOICES = [["run", "run_id", "name"], ["source", "source", "source"], ["step", "step", "step"],
  ["outcome", "outcome", "outcome"]];
const TEXTS = ["prompt", "completion", "feedback", "teacher_prompt"];
let rollouts = [], shown = [], limit = PAGE, current = 0, detailed = "", nStored = 0, longestText = Infinity;

const number = (n) => n.toLocaleString("en");
// An imported log of training says of no completion whether it passed.
const ending = (row) => row.outcome === "passed" ? "passed" :
  row.outcome === "imported" && row.source === "training" ? "" : "failed";
// NaN and the infinities come as their names, which JSON has no numbers for.
const decimal = (n) => typeof n === "number" ? n.toFixed(3) : n;
// Characters that hide or turn round what stands beside them are shown as their escapes.
const HIDDEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const visible = (text) => String(text).replace(HIDDEN, (char) => {
  const code = char.codePointAt(0).toString(16);
  return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : code.length <= 4 ? `\\u${code.padStart(4, "0")}` : `\\U${code.padStart(8, "0")}`;
});

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = visible(text);
  if (className) made.className = className;
  return made;
}

const keyOf = (row) => row && [row.run_id, row.source, row.eval_id, row.step, row.group_index, row.member_index,
  row.task_id].join(" ");

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const table = JSON.parse(await new Response(stream).text());
  rollouts = table.rows.map((row) => Object.fromEntries(table.columns.map((name, i) => [name, row[i]])));
  nStored = table.n_stored;
  longestText = table.longest_text;
  byId("browser").hidden = rollouts.length === 0;
  for (const [id, field, label] of CHOICES) offer(byId(id), field, label);
}

// The choices of a filter: every value that some completion has.
function offer(select, field, label) {
  const chosen = select.value;
  const names = new Map(rollouts.filter((row) => row[field] !== null).map((row) => [row[field], row[label]]));
  const values = [...names.keys()];
  values.sort((a, b) => (typeof a === "number" ? a - b : String(names.get(a)).localeCompare(String(names.get(b)))));
  select.replaceChildren(select.options[0], ...values.map((value) => {
    const option = element("option", names.get(value));
    option.value = String(value);
    return option;
  }));
  select.value = chosen;
}

// The filters stand in the address, so that a view can be sent to a colleague.
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const id of FILTERS) {
    byId(id).value = wanted.get(id) ?? "";
    if (byId(id).selectedIndex === -1) byId(id).value = ""; // a value that no completion has
  }
}

function writeAddress() {
  const chosen = new URLSearchParams();
  for (const id of FILTERS) if (byId(id).value) chosen.set(id, byId(id).value);
  history.replaceState(null, "", "#" + chosen);
}

function filter(wanted) {
  const value = Object.fromEntries(FILTERS.map((id) => [id, byId(id).value.trim()]));
  const text = value.text.toLowerCase();
  const chosen = [...CHOICES, ["task", "task_id"]].filter(([id]) => value[id]);
  shown = rollouts.filter((row) => chosen.every(([id, field]) => String(row[field]) === value[id]) &&
    (!text || TEXTS.some((name) => row[name] && row[name].toLowerCase().includes(text))));
  const index = Math.max(0, wanted ? shown.findIndex((row) => keyOf(row) === wanted) : 0);
  limit = Math.max(PAGE, index + 1);
  list();
  select(index, false);
}

function list() {
  const beside = nStored > rollouts.length ? `; the results hold ${number(nStored)}` : "";
  byId("count").textContent =
    `${number(shown.length)} of ${number(rollouts.length)} completions on this page match${beside}.`;
  const items = shown.slice(0, limit).map((row, i) => {
    const item = element("li"), button = element("button");
    button.type = "button";
    const where = row.source === "training" ? `step ${row.step}` :
      row.step === null ? "evaluation" : `evaluation at step ${row.step}`;
    button.append(
      element("span", row.outcome, ending(row)), ` · task ${row.task_id}`,
      element("small", `${row.name} · ${where}`));
    button.addEventListener("click", () => select(i, true));
    item.append(button);
    return item;
  });
  if (shown.length > limit) {
    const item = element("li"), more = element("button", `show ${Math.min(PAGE, shown.length - limit)} more`);
    more.type = "button";
    more.addEventListener("click", () => { limit += PAGE; list(); select(current, true); });
    item.append(more);
    items.push(item);
  }
  byId("list").replaceChildren(...items);
}

function select(index, focus) {
  current = index;
  const buttons = [...byId("list").querySelectorAll("button")];
  buttons.forEach((button, i) => {
    button.setAttribute("aria-current", String(i === index));
    button.tabIndex = i === index || i >= limit ? 0 : -1; // one stop for the whole list, one for "show more"
  });
  if (focus) buttons[index]?.focus();
  const key = keyOf(shown[index]) ?? "";
  if (key !== detailed || !key) // what is read stays where it was scrolled to
    byId("detail").replaceChildren(...(key ? described(shown[index], "h3") : []));
  detailed = key;
}

function about(row) {
  const training = row.source === "training";
  const facts = [row.name, row.step === null ? null : `step ${row.step}`,
    training ? `group ${row.group_index}, completion ${row.member_index}` : `evaluation ${row.eval_id}`,
    `task ${row.task_id}`, training && row.reward !== null ? `reward ${decimal(row.reward)}` : null,
    row.advantage === null ? null : `advantage ${decimal(row.advantage)}`,
    row.n_completion_tokens === null ? null : `${row.n_completion_tokens} tokens${row.truncated ? ", cut" : ""}`];
  return facts.filter((fact) => fact !== null).join(" · ");
}

// All that a completion has, with headings of a level.
function described(row, heading) {
  const parts = [];
  const block = (title, text, code) => {
    if (text === null || text === undefined) return;
    const pre = element("pre");
    if (code) highlight(pre, visible(text)); else pre.textContent = visible(text);
    pre.tabIndex = 0;
    pre.setAttribute("role", "group");
    pre.setAttribute("aria-label", title);
    parts.push(element(heading, title), pre);
    if ([...text].length >= longestText)
      parts.push(element("p", `Cut at ${number(longestText)} characters; the results hold all.`, "muted"));
  };
  const line = element("p", "", "muted");
  line.append(element("span", row.outcome, ending(row)), visible(` · ${about(row)}`));
  parts.push(line);
  block("Completion", row.completion, true);
  if (row.tests.length)
    parts.push(element(heading, `Asserts: ${row.n_passed} of ${row.n_asserts} passed`), asserts(row.tests));
  block("Feedback", row.feedback);
  block("Prompt", row.prompt, true);
  block("Teacher prompt", row.teacher_prompt, true);
  return parts;
}

function asserts(tests) {
  const rows = tests.map((test) => {
    const cells = element("tr"), assertion = element("td");
    highlight(assertion, visible(test.assertion));
    const why = test.exception ? `${test.exception}${test.message ? ": " + test.message : ""}` :
      test.got === null ? "" : `got ${test.got}`;
    cells.append(element("td", test.verdict, test.verdict === "passed" ? "passed" : "failed"), assertion,
      element("td", test.verdict === "passed" ? "" : why));
    return cells;
  });
  const body = element("tbody"), table = element("table"), scroll = element("div", "", "scroll");
  body.append(...rows);
  table.append(body);
  table.setAttribute("aria-label", "Asserts with their verdicts");
  scroll.append(table);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "Asserts");
  return scroll;
}

const TOKEN = new RegExp([
  "(?<note>#[^\\n]*)",
  "(?<text>'''[^]*?'''|\"\"\"[^]*?\"\"\"|'(?:[^'\\\\\\n]|\\\\.)*'|\"(?:[^\"\\\\\\n]|\\\\.)*\")",
  "(?<number>\\b\\d[\\d_]*(?:\\.\\d+)?(?:e[+-]?\\d+)?\\b)",
  "(?<word>\\b(?:def|return|if|elif|else|for|while|in|not|and|or|is|import|from|as|class|try|except|finally|" +
    "raise|with|lambda|yield|pass|break|continue|assert|None|True|False|global|nonlocal|del|async|await)\\b)"].join("|"), "g");
// Prose has words and apostrophes of its own, so that only what looks like code is coloured.
const CODE = /```(?:python|py)?\n([^]*?)(?:```|$)|^(?:(?:async )?def |class |import |from |@|assert |    )[^\n]*$/gm;

function highlight(target, text) {
  let end = 0;
  const cut = text.slice(0, 20000);
  const parts = /^\s*(?:def|import|from|class|assert)\b/.test(cut) && !cut.includes("```") ? [[0, cut.length]] :
    [...cut.matchAll(CODE)].map((match) => [match.index, match.index + match[0].length]);
  for (const [from, to] of parts) {
    for (const match of cut.slice(from, to).matchAll(TOKEN)) {
      const start = from + match.index;
      target.append(text.slice(end, start));
      const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
      target.append(element("span", match[0], kind));
      end = start + match[0].length;
    }
  }
  target.append(text.slice(end));
}

// While runs go on: take over what has changed, and leave the reader's place, choice and filters as they are.
const LIVE = ["verdict", "about", "leaderboard", "runs", "configs", "kept"];
let tag = "";

async function refresh() {
  const said = byId("live");
  said.hidden = false;
  try {
    const answer = await fetch("/", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.status === 200) {
      tag = answer.headers.get("ETag") ?? "";
      await takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } else if (answer.status !== 304) {
      throw new Error((await answer.text()).trim());
    }
    said.textContent = `Up to date at ${new Date().toLocaleTimeString()}; asks again every ${refreshS} s.`;
  } catch (error) {
    said.textContent = `No answer at ${new Date().toLocaleTimeString()} (${error.message}); asks again every ${refreshS} s.`;
  }
}

async function takeOver(fresh) {
  for (const id of LIVE) {
    const found = fresh.getElementById(id);
    if (found && found.innerHTML !== byId(id).innerHTML) byId(id).replaceChildren(...found.childNodes);
  }
  for (const charts of document.querySelectorAll(".charts")) takeOverFigures(charts, fresh.getElementById(charts.id));
  const data = fresh.getElementById("data").textContent;
  if (data === byId("data").textContent) return;
  byId("data").textContent = data;
  const place = byId("list").scrollTop, focused = byId("list").contains(document.activeElement);
  await unpack(data);
  filter(detailed);
  byId("list").scrollTop = place;
  if (focused) select(current, true);
}

function takeOverFigures(charts, fresh) {
  const figures = [...fresh.children];
  figures.forEach((figure, i) => {
    const old = charts.children[i];
    const values = figure.querySelector("details");
    if (values) values.open = old?.querySelector("details")?.open ?? false;
    if (!old) charts.append(figure);
    else if (old.innerHTML !== figure.innerHTML) old.replaceWith(figure);
  });
  while (charts.children.length > figures.length) charts.lastChild.remove();
}

// The mark nearest to the pointer says its values.
function nearestMark(figure, x, y) {
  let nearest = null, least = 24;
  for (const mark of figure.querySelectorAll("[data-tip]")) {
    const box = mark.getBoundingClientRect();
    const outside = Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
    // Of marks that lie on each other the one whose middle is nearer.
    const far = outside + Math.hypot(x - (box.left + box.right) / 2, y - (box.top + box.bottom) / 2) / 1000;
    if (far < least) [nearest, least] = [mark, far];
  }
  return nearest;
}

function showTip(event) {
  const tip = byId("tip"), figure = event.target.closest?.("figure .scroll[role=img]");
  const mark = figure && nearestMark(figure, event.clientX, event.clientY);
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 4))}px`;
  tip.style.top = `${event.clientY + 16 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 16}px`;
}

// On paper: what matches, one after the other, in full.
function printed() {
  const chosen = shown.slice(0, MOST_PRINTED);
  const rest = shown.length > chosen.length ?
    `The first ${number(chosen.length)} of ${number(shown.length)} that match; filter before printing to choose others.` : "";
  byId("printed").replaceChildren(element("p", rest, "muted"), ...chosen.map((row) => {
    const article = element("article");
    article.append(element("h3", `${row.outcome}, task ${row.task_id}, ${row.name}`), ...described(row, "h4"));
    return article;
  }));
}

for (const name of ["pointermove", "pointerdown"]) document.addEventListener(name, showTip);
for (const name of ["scroll", "keydown"]) document.addEventListener(name, () => { byId("tip").hidden = true; }, true);
window.addEventListener("beforeprint", printed);
window.addEventListener("afterprint", () => byId("printed").replaceChildren());
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", () => { writeAddress(); filter(); });
byId("clear").addEventListener("click", () => { byId("filters").reset(); writeAddress(); filter(); });
window.addEventListener("hashchange", () => {
  if (location.hash && !location.hash.includes("=")) return; // a section of the page
  readAddress();
  filter();
});
for (const id of ["text", "task"]) byId(id).addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" || !shown.length) return;
  event.preventDefault();
  select(current, true);
});
byId("list").addEventListener("keydown", (event) => {
  const last = Math.min(shown.length, limit) - 1;
  const to = { ArrowDown: current + 1, ArrowUp: current - 1, j: current + 1, k: current - 1, Home: 0, End: last }[event.key];
  if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  select(Math.min(Math.max(to, 0), last), true);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  byId("text").focus();
});
const refreshS = Number(document.body.dataset.refreshS);
unpack(byId("data").textContent).then(() => {
  readAddress();
  filter();
  if (refreshS > 0) setInterval(refresh, refreshS * 1000);
});
