"""The page at `/` of an edge server: what it does now, live, without a build step or a network beyond the server.

The events are `ServerTelemetry.snapshot`. Only rounds that had requests are drawn; all are counted.
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>edgesplit edge server</title><style>
:root { color-scheme: light dark; --edge: #8885; --granted: #0173b2; --flight: #c46200; }
@media (prefers-color-scheme: dark) { :root { --granted: #56b4e9; --flight: #f0a830; } }
* { box-sizing: border-box; }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem .75rem; margin-bottom: .75rem; }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1rem; margin: 0; } h2 + p { margin-top: 0; }
#state { font-size: .875rem; border: 1px solid var(--edge); border-radius: 1rem; padding: 0 .6rem; }
#state.live::before { content: "\\25cf"; color: #2a9d4a; margin-right: .3rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .5rem; margin: 0 0 1rem; }
dl div { border: 1px solid var(--edge); border-radius: .4rem; padding: .4rem .6rem; }
dt { font-size: .875rem; } dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
section { min-width: 0; } section:last-child { grid-column: 1 / -1; }
@media (min-width: 60rem) { dl { grid-template-columns: repeat(6, 1fr); } }
canvas { width: 100%; height: 15rem; display: block; border: 1px solid var(--edge); border-radius: .4rem; }
p { font-size: .875rem; margin: .25rem 0 .5rem; }
p span { white-space: nowrap; margin-right: .6rem; }
i { display: inline-block; width: 1rem; height: .7rem; margin-right: .3rem; vertical-align: middle; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .4rem; border-bottom: 1px solid var(--edge); }
th { font-size: .875rem; font-weight: 600; }
</style></head><body>
<header><h1>edgesplit edge server</h1><span id="state" role="status">connecting</span></header>
<dl id="numbers"></dl>
<main>
<section><h2>Rounds</h2><p>
<span><i style="background: var(--edge)"></i>requests</span>
<span><i style="background: var(--granted)"></i>of them granted</span>
<span><i style="height: 0; border-top: 3px solid var(--flight)"></i>images in flight</span></p>
<canvas id="rounds" role="img" aria-label="requests, grants and images in flight of the last rounds"></canvas></section>
<section><h2>Planned against measured</h2>
<p id="error">No device has said yet what it measured.</p>
<canvas id="reports" role="img" aria-label="planned against measured latency, a point for each image"></canvas>
</section>
<section><h2>Last rounds with requests</h2>
<table><thead><tr><th>second</th><th>requests</th><th>granted</th><th>in flight</th></tr></thead>
<tbody id="last"></tbody></table></section>
</main>
<script>
const NAMES = {rounds: "rounds", in_flight: "in flight", pending: "waiting", on_radio: "on the radio",
  granted: "granted", denied: "denied", cancelled: "cancelled", failed: "failed", expired: "expired",
  rejected: "turned away", step: "step, ms"};
const LEFT = 44, RIGHT = 12, TOP = 14, BOTTOM = 26, ROWS = 6;
const byId = id => document.getElementById(id);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name);
function element(kind, text) {
  const made = document.createElement(kind); made.textContent = text; return made;
}
function board(id, most) {
  const canvas = byId(id), scale = devicePixelRatio || 1, pen = canvas.getContext("2d");
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale; canvas.height = height * scale; pen.scale(scale, scale);
  pen.font = "13px system-ui, sans-serif"; pen.fillStyle = getComputedStyle(document.body).color;
  const up = share => height - BOTTOM - share * (height - TOP - BOTTOM);
  pen.textAlign = "right"; pen.textBaseline = "middle"; pen.strokeStyle = colour("--edge");
  for (const share of [0, .5, 1]) {
    pen.fillText(+(most * share).toPrecision(3), LEFT - 6, up(share));
    pen.beginPath(); pen.moveTo(LEFT, up(share)); pen.lineTo(width - RIGHT, up(share)); pen.stroke();
  }
  const right = share => LEFT + share * (width - LEFT - RIGHT);
  return {pen, up: value => up(value / most), right, floor: height - 10};
}
function evenly(most) { return Math.max(2, 2 * Math.ceil(most / 2)); }
function drawRounds(rounds) {
  const most = evenly(Math.max(...rounds.map(r => Math.max(r.requests, r.in_flight)), 1));
  const {pen, up, right, floor} = board("rounds", most);
  if (!rounds.length) return;
  const first = rounds[0].time_s, span = Math.max(rounds.at(-1).time_s - first, 1);
  const x = r => right(.02 + .96 * (r.time_s - first) / span);
  const half = Math.max(1, Math.min(8, (right(.96) - right(0)) / span / 2 - 1));
  for (const [name, field] of [["--edge", "requests"], ["--granted", "granted"]]) {
    pen.fillStyle = colour(name);
    rounds.forEach(r => pen.fillRect(x(r) - half, up(r[field]), 2 * half, up(0) - up(r[field])));
  }
  pen.beginPath(); pen.strokeStyle = colour("--flight"); pen.lineWidth = 2;
  rounds.forEach(r => pen.lineTo(x(r), up(r.in_flight))); pen.stroke();
  pen.fillStyle = getComputedStyle(document.body).color; pen.textAlign = "left";
  pen.fillText(Math.round(first) + " s", right(0), floor); pen.textAlign = "right";
  pen.fillText(Math.round(first + span) + " s", right(1), floor);
}
function drawReports(reports) {
  const most = Math.max(...reports.map(r => Math.max(r.planned_s, r.measured_s)), 1e-3) * 1.05;
  const {pen, up, right, floor} = board("reports", most);
  pen.textAlign = "left"; pen.fillText("planned, s", right(0), floor); pen.fillText("measured, s", right(.01), 24);
  pen.textAlign = "right"; pen.fillText(most.toPrecision(3), right(1), floor);
  pen.strokeStyle = pen.fillStyle;
  pen.beginPath(); pen.setLineDash([4, 4]); pen.moveTo(right(0), up(0)); pen.lineTo(right(1), up(most)); pen.stroke();
  pen.fillStyle = colour("--granted"); pen.globalAlpha = .7;
  reports.forEach(r => {
    pen.beginPath(); pen.arc(right(r.planned_s / most), up(r.measured_s), 4, 0, 7); pen.fill();
  });
  if (!reports.length) return;
  const errors = reports.map(r => Math.abs(r.planned_s - r.measured_s) / Math.max(r.measured_s, 1e-9));
  const median = errors.sort((a, b) => a - b)[Math.floor(errors.length / 2)];
  byId("error").textContent = `Latency of the last ${reports.length} images; the typical one is ` +
    `${(100 * median).toFixed(1)} % off its plan. On the line: as planned; above it: later.`;
}
let last = null;
function draw() { if (last) { drawRounds(last.rounds); drawReports(last.reports); } }
function tell(text, live) { byId("state").textContent = text; byId("state").classList.toggle("live", live); }
function show(now) {
  last = now;
  tell(now.ready ? "live" : "loading its model", now.ready);
  const numbers = {...now.counters, ...now, step: (1000 * now.step_s).toFixed(1), rounds: now.counters.rounds};
  byId("numbers").replaceChildren(...Object.entries(NAMES).map(([key, words]) => {
    const box = document.createElement("div");
    box.append(element("dt", words), element("dd", numbers[key])); return box;
  }));
  byId("last").replaceChildren(...now.rounds.slice(-ROWS).reverse().map(r => {
    const row = document.createElement("tr");
    row.append(...[r.time_s.toFixed(0), r.requests, r.granted, r.in_flight].map(value => element("td", value)));
    return row;
  }));
  draw();
}
const source = new EventSource("events");
source.onmessage = event => show(JSON.parse(event.data));
source.onerror = () => tell("no connection; it tries again", false);
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
</script></body></html>
"""
