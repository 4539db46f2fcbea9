"""The style sheet of the HTML report: one palette for light and one for dark, nothing fetched."""

from __future__ import annotations

STYLE = """
:root { --bg: #f7f8fa; --card: #fff; --ink: #1b1f27; --soft: #5d6675; --line: #dfe3ea; --accent: #1f6feb; --accent-soft: #e3edfd;
  --dist: #9aa5b5; --good: #137a43; --good-soft: #dff3e6; --warn: #8a5a00; --warn-soft: #fcefd2; --bad: #b3261e;
  --bad-soft: #fbe4e2; --runtime: #4c78a8; --model: #e08a3c; --code: #57a773; --base: #b9c0cb; }
@media (prefers-color-scheme: dark) { :root { --bg: #12151b; --card: #1a1f28; --ink: #e6e9ef; --soft: #9aa4b4; --line: #2d3542;
  --accent: #6aa6ff; --accent-soft: #1c2f4d; --dist: #667388; --good: #5fd08f; --good-soft: #173726; --warn: #edbb5f;
  --warn-soft: #3c2f12; --bad: #ff8f86; --bad-soft: #43201e; --runtime: #6f9fd0; --model: #eaa05c; --code: #79c794;
  --base: #525d6e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 28px 20px 48px; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.93em; }
header { border-left: 5px solid var(--good); padding: 2px 0 2px 16px; }
header.bad { border-color: var(--bad); }
header .name { margin: 0; color: var(--soft); }
h1 { margin: 0; font-size: 24px; line-height: 1.3; overflow-wrap: anywhere; }
h2 { margin: 0 0 10px; font-size: 16px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; margin-top: 18px; }
h3 { margin: 16px 0 4px; font-size: 13.5px; font-weight: 500; overflow-wrap: anywhere; }
h2 + h3 { margin-top: 0; }
section p { margin: 0 0 8px; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin-top: 18px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
  display: grid; align-content: start; }
.card span, .card small { color: var(--soft); font-size: 13px; }
.card strong { font-size: 23px; font-weight: 650; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; padding: 7px 7px; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { white-space: normal; vertical-align: bottom; color: var(--soft); font-weight: 550; font-size: 12.5px; }
tbody th { font-weight: 500; }
tbody tr:last-child > * { border-bottom: 0; }
thead th:nth-child(n+3), td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n:nth-child(11) { white-space: normal; min-width: 122px; }
table.plain thead th { text-align: left; }
table.plain td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
table.plain td.n, table.plain td.name { white-space: nowrap; }
table.plain td:nth-child(3), table.plain td:nth-child(4) { width: 44%; }
tr.chosen { background: var(--good-soft); }
.pill { display: inline-block; border-radius: 99px; padding: 1px 9px; font-size: 12.5px; background: var(--line);
  white-space: nowrap; }
.pill.chosen { background: var(--good); color: var(--card); }
.pill.ok { background: var(--good-soft); color: var(--good); }
.pill.over_budget { background: var(--warn-soft); color: var(--warn); }
.pill.failed { background: var(--bad-soft); color: var(--bad); }
details { border-top: 1px solid var(--line); padding: 7px 0; }
details:first-of-type { border-top: 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
details[open] .first { display: none; }
.first { color: var(--soft); font-size: 13.5px; }
ul { margin: 6px 0; padding-left: 22px; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
footer { color: var(--soft); font-size: 13px; margin-top: 18px; overflow-wrap: anywhere; }
section:has(svg) { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 820px; height: auto; }
svg text { font: 12.5px system-ui, "Segoe UI", Roboto, sans-serif; fill: var(--soft);
  paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
svg text.label { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--ink); }
svg text.label.marked { font-weight: 700; }
svg text.value { font-variant-numeric: tabular-nums; }
svg text.limit { fill: var(--bad); }
svg line.grid { stroke: var(--line); }
svg line.zero { stroke: var(--soft); }
svg line.limit { stroke: var(--bad); stroke-dasharray: 5 4; stroke-width: 1.5; }
svg .dist { fill: var(--dist); }
svg .dist.marked { fill: var(--accent); }
svg circle.dot { fill-opacity: 0.7; }
svg circle.estimate { fill: none; stroke: var(--soft); stroke-width: 2; stroke-dasharray: 3 2; }
svg circle.estimate.marked { stroke: var(--accent); }
svg line.tick { stroke: var(--ink); stroke-width: 2; }
svg line.tick.p95 { stroke-width: 1.5; stroke-dasharray: 3 2; }
svg .whisker { stroke: var(--soft); stroke-width: 2; fill: none; }
.part-runtime { fill: var(--runtime); } .part-model { fill: var(--model); } .part-code { fill: var(--code); }
.part-base, .part-other { fill: var(--base); }
.legend { display: flex; gap: 16px; }
.key::before { content: ""; display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
  background: var(--base); }
.key.part-runtime::before { background: var(--runtime); } .key.part-model::before { background: var(--model); }
.key.part-code::before { background: var(--code); }
@media (max-width: 640px) { main { padding: 16px 10px; } }
"""
