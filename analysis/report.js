"use strict";
// Everything from a run is put into the page with textContent: it is shown, never interpreted.
const PAGE = 150;
const byId = (id) => document.getElementById(id);
const FILTERS = ["run", "step", "task", "outcome", "text"];
let rollouts = [], shown = [], limit = PAGE, current = 0;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function load() {
  const packed = Uint8Array.from(atob(byId("data").textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const table = JSON.parse(await new Response(stream).text());
  rollouts = table.rows.map((row) => Object.fromEntries(table.columns.map((name, i) => [name, row[i]])));
  for (const [id, field] of [["run", "run_id"], ["step", "step"], ["outcome", "outcome"]]) {
    const values = [...new Set(rollouts.map((row) => row[field]))];
    values.sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b))));
    for (const value of values) {
      const option = element("option", value);
      option.value = String(value);
      byId(id).append(option);
    }
  }
  readAddress();
  filter();
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

function filter() {
  const value = Object.fromEntries(FILTERS.map((id) => [id, byId(id).value.trim()]));
  const text = value.text.toLowerCase();
  shown = rollouts.filter((row) =>
    (!value.run || row.run_id === value.run) &&
    (!value.step || String(row.step) === value.step) &&
    (!value.task || String(row.task_id) === value.task) &&
    (!value.outcome || row.outcome === value.outcome) &&
    (!text || [row.prompt, row.completion, row.feedback, row.teacher_prompt]
      .some((part) => part && part.toLowerCase().includes(text))));
  limit = PAGE;
  list();
  select(0, false);
}

function list() {
  byId("count").textContent = `${shown.length} of ${rollouts.length} completions`;
  const items = shown.slice(0, limit).map((row, i) => {
    const item = element("li"), button = element("button");
    button.type = "button";
    button.append(
      element("span", row.outcome, row.outcome === "passed" ? "passed" : "failed"),
      ` · task ${row.task_id} · step ${row.step} · ${row.run_id}`);
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
  buttons.forEach((button, i) => button.setAttribute("aria-current", String(i === index)));
  if (focus) buttons[index]?.focus();
  detail(shown[index]);
}

function detail(row) {
  const parts = [];
  const block = (title, text, code) => {
    if (text === null || text === undefined) return;
    const pre = element("pre");
    if (code) highlight(pre, text); else pre.textContent = text;
    pre.tabIndex = 0;
    parts.push(element("h3", title), pre);
  };
  if (row) {
    parts.push(element("p", `${row.run_id} · step ${row.step} · group ${row.group_index}, completion ` +
      `${row.member_index} · task ${row.task_id} · reward ${row.reward.toFixed(3)} · advantage ` +
      `${row.advantage.toFixed(3)} · ${row.n_completion_tokens} tokens${row.truncated ? ", cut" : ""}`, "muted"));
    block("Completion", row.completion, true);
    if (row.tests.length) {
      parts.push(element("h3", `Asserts: ${row.n_passed} of ${row.n_asserts} passed`));
      const rows = row.tests.map((test) => {
        const line = element("tr");
        line.append(element("td", test.verdict, test.verdict === "passed" ? "passed" : "failed"),
          element("td", test.assertion), element("td", test.exception ?? test.got));
        return line;
      });
      const body = element("tbody"), table = element("table"), scroll = element("div", "", "scroll");
      body.append(...rows);
      table.append(body);
      scroll.append(table);
      parts.push(scroll);
    }
    block("Feedback", row.feedback);
    block("Prompt", row.prompt);
    block("Teacher prompt", row.teacher_prompt);
  }
  byId("detail").replaceChildren(...parts);
}

const TOKEN = new RegExp([
  "(?<note>#[^\\n]*)",
  "(?<text>'''[^]*?'''|\"\"\"[^]*?\"\"\"|'(?:[^'\\\\\\n]|\\\\.)*'|\"(?:[^\"\\\\\\n]|\\\\.)*\")",
  "(?<word>\\b(?:def|return|if|elif|else|for|while|in|not|and|or|is|import|from|as|class|try|except|finally|" +
    "raise|with|lambda|yield|pass|break|continue|assert|None|True|False|global|del)\\b)"].join("|"), "g");

function highlight(target, text) {
  let end = 0;
  for (const match of text.slice(0, 20000).matchAll(TOKEN)) {
    target.append(text.slice(end, match.index));
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    target.append(element("span", match[0], kind));
    end = match.index + match[0].length;
  }
  target.append(text.slice(end));
}

byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", () => { writeAddress(); filter(); });
window.addEventListener("hashchange", () => { readAddress(); filter(); });
byId("list").addEventListener("keydown", (event) => {
  const move = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  if (!move) return;
  event.preventDefault();
  select(Math.min(Math.max(current + move, 0), Math.min(shown.length, limit) - 1), true);
});
load();
