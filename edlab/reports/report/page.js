"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

// Charts: drawn in the colours of the page, and again when it changes between light and dark.
function colours() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: get("--line"), linecolor: get("--line"), zerolinecolor: get("--quiet") };
  return { text: get("--text"), card: get("--card"), axis };
}

function themed(layout) {
  const { text, card, axis } = colours();
  return {
    ...layout,
    autosize: true,
    font: { color: text, family: "system-ui, sans-serif", size: 12 },
    paper_bgcolor: card,
    plot_bgcolor: card,
    hoverlabel: { bgcolor: card, font: { color: text }, align: "left" },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
}

function visible(trace, text) {
  const shown = "hovertext" in trace ? { ...trace, hoverinfo: "text" } : trace;
  return trace.type === "bar" && trace.error_x ? { ...shown, error_x: { ...trace.error_x, color: text } } : shown;
}

function draw() {
  const { text } = colours();
  for (const { key, traces, layout } of data.charts) {
    const element = document.getElementById(`chart-${key}`);
    if (!element) continue;
    Plotly.react(element, traces.map((trace) => visible(trace, text)), themed(layout), {
      responsive: true,
      displaylogo: false,
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    });
  }
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// The table: sort by a click on a heading, filter by words, copy the rows that are shown.
const body = document.querySelector("#runs tbody");
const rows = [...body.rows];
const headings = [...document.querySelectorAll("#runs thead th")];
const filter = document.getElementById("filter");
const count = document.getElementById("count");

function number(text) {
  const found = text.replaceAll(",", "").match(/[-+]?\d*\.?\d+(e[-+]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
}

function sort(heading) {
  const column = headings.indexOf(heading);
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const isNumber = heading.classList.contains("number");
  const text = (row) => row.cells[column].textContent;
  const sign = descending ? -1 : 1;
  rows.sort((one, other) => {
    if (!isNumber) return sign * text(one).localeCompare(text(other), undefined, { numeric: true });
    const [a, b] = [number(text(one)), number(text(other))];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // missing values last
    return sign * (a - b);
  });
  for (const each of headings) each.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
}

function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} runs`;
}

async function copy() {
  const lines = rows.filter((row) => !row.hidden).map((row) => data.csv[Number(row.dataset.row)]);
  const text = [data.csv[0], ...lines].join("");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // a browser that refuses the clipboard to a file
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  count.textContent = `${lines.length} runs copied, with all their metrics`;
}

for (const heading of headings) heading.querySelector("button").addEventListener("click", () => sort(heading));
filter.addEventListener("input", show);
document.getElementById("copy").addEventListener("click", copy);
show();
