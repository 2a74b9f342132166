"""The page at `/` of an edge server: what it does now, live, without a build step or a network beyond the server."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>edgesplit edge server</title><style>
:root { color-scheme: light dark; } * { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; } h2 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .5rem; margin: 0; }
dl div { border: 1px solid #8886; border-radius: .4rem; padding: .4rem .6rem; }
dt { font-size: .8rem; opacity: .75; } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
canvas { width: 100%; height: 9rem; display: block; border: 1px solid #8886; border-radius: .4rem; }
p { font-size: .85rem; opacity: .8; margin: .25rem 0; }
</style></head><body>
<h1>edgesplit edge server <span id="state"></span></h1>
<dl id="numbers"></dl>
<h2>Rounds: requests (line), granted (bars), images in flight (dashed)</h2><canvas id="rounds"></canvas>
<h2>Planned against measured latency, seconds</h2><canvas id="reports"></canvas>
<p>A point on the diagonal arrived exactly as planned; above it, later.</p>
<script>
const names = {in_flight: "images in flight", on_radio: "on the radio", pending: "waiting", step: "step, ms",
  granted: "granted", denied: "denied", cancelled: "cancelled", failed: "failed", rejected: "turned away"};
const ink = () => getComputedStyle(document.body).color;
function board(id) {
  const canvas = document.getElementById(id), scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale; canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d"); pen.scale(scale, scale); pen.font = "11px system-ui"; pen.fillStyle = ink();
  return [pen, canvas.clientWidth, canvas.clientHeight];
}
function line(pen, points, colour, dash) {
  pen.beginPath(); pen.setLineDash(dash || []); pen.strokeStyle = colour; pen.lineWidth = 2;
  points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y)); pen.stroke(); pen.setLineDash([]);
}
function drawRounds(rounds) {
  const [pen, width, height] = board("rounds"), n = Math.max(rounds.length, 2);
  const most = Math.max(1, ...rounds.map(r => Math.max(r.requests, r.in_flight)));
  const x = i => 30 + i * (width - 40) / (n - 1), y = v => height - 16 - v * (height - 28) / most;
  pen.fillText(most, 4, 14); pen.fillText(0, 4, height - 14);
  pen.fillStyle = "#0173b288";
  rounds.forEach((r, i) => pen.fillRect(x(i) - 2, y(r.granted), 4, height - 16 - y(r.granted)));
  line(pen, rounds.map((r, i) => [x(i), y(r.requests)]), ink());
  line(pen, rounds.map((r, i) => [x(i), y(r.in_flight)]), "#de8f05", [5, 4]);
}
function drawReports(reports) {
  const [pen, width, height] = board("reports");
  const most = Math.max(1e-3, ...reports.map(r => Math.max(r.planned_s, r.measured_s))) * 1.05;
  const x = v => 40 + v * (width - 50) / most, y = v => height - 16 - v * (height - 24) / most;
  line(pen, [[x(0), y(0)], [x(most), y(most)]], "#8888", [3, 3]);
  pen.fillText(most.toPrecision(2), 4, 14); pen.fillText("planned " + most.toPrecision(2), width - 80, height - 4);
  pen.fillStyle = "#0173b2";
  reports.forEach(r => { pen.beginPath(); pen.arc(x(r.planned_s), y(r.measured_s), 3, 0, 7); pen.fill(); });
}
function show(now) {
  const numbers = {in_flight: now.in_flight, on_radio: now.on_radio, pending: now.pending,
    step: (1000 * now.step_s).toFixed(1), ...now.counters};
  document.getElementById("state").textContent = now.ready ? "" : "(loading its model)";
  const list = document.getElementById("numbers"); list.replaceChildren();
  for (const [key, words] of Object.entries(names)) {
    const box = document.createElement("div"), term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = words; value.textContent = numbers[key]; box.append(term, value); list.append(box);
  }
  drawRounds(now.rounds); drawReports(now.reports);
}
const source = new EventSource("events");
source.onmessage = event => show(JSON.parse(event.data));
source.onerror = () => document.getElementById("state").textContent = "(no connection; it tries again)";
</script></body></html>
"""
