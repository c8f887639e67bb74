/** The whole style of the page; it loads nothing. Text has a contrast of at least 4.5, in light and dark. */
export const style = `
:root {
  color-scheme: light dark;
  --back: #f4f6f9; --card: #fff; --line: #dde3eb; --text: #172033; --quiet: #56627a; --link: #1d4ed8;
  --made: #2563eb; --pending: #2563eb; --free: #dce3ee;
  --fail: #b42318; --fail-back: #fdecea; --warn: #8a5300; --warn-back: #fdf3dc;
  --ok: #17693c; --ok-back: #e4f5ea; --wait: #3a4f8f; --wait-back: #e8edfb;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0e131b; --card: #161d28; --line: #2a3445; --text: #e7ecf5; --quiet: #9ba8bd; --link: #8ab4ff;
    --made: #5b8dff; --pending: #5b8dff; --free: #2b3649;
    --fail: #ff9d92; --fail-back: #3b1a1a; --warn: #f3c069; --warn-back: #33270e;
    --ok: #7fd9a2; --ok-back: #12301f; --wait: #a9bdf7; --wait-back: #1c2747;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.wide { max-width: 1240px; margin: 0 auto; padding-left: 24px; padding-right: 24px; }
h1, h2, h3, p, dl, dd, ol, ul { margin: 0; padding: 0; }
ol, ul { list-style: none; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 3px; }
a:not(:hover) { text-decoration-color: color-mix(in srgb, currentColor 35%, transparent); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 4px; }
code { font-family: var(--mono); font-size: .9em; }
.quiet { color: var(--quiet); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: 16px; top: -60px; padding: 8px 16px; background: var(--card); border-radius: 0 0 8px 8px; z-index: 1; }
.skip:focus { top: 0; }

.top { background: var(--card); border-bottom: 1px solid var(--line); }
.top .wide { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 24px; padding-top: 14px; padding-bottom: 14px; }
.brand { display: flex; align-items: center; gap: 10px; font-size: 18px; font-weight: 650; letter-spacing: -.01em; color: inherit; text-decoration: none; }
.brand svg { width: 26px; height: 26px; }
.top .read { margin-left: auto; font-size: 13px; color: var(--quiet); }
.read.lost { color: var(--fail); font-weight: 600; }
.live { display: inline-flex; align-items: center; gap: 6px; font-size: 13px; }
.live[hidden] { display: none; }
input[type=checkbox] { width: 16px; height: 16px; margin: 0; accent-color: var(--link); }
main { padding-top: 24px; padding-bottom: 48px; }
section { margin-top: 32px; }
section[aria-label=Summary] { margin-top: 0; }
h2 { font-size: 18px; font-weight: 650; letter-spacing: -.01em; }
.head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 12px; margin-bottom: 12px; }
.head .legend { margin-left: auto; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; }
.tile { padding: 16px 18px; min-width: 0; }
.tile dt { font-size: 13px; color: var(--quiet); }
.tile .big { font-size: 24px; font-weight: 650; letter-spacing: -.02em; line-height: 1.25; }
.tile .name { font-size: 14px; letter-spacing: 0; line-height: 1.4; padding: 4px 0 2px; }
.tile .more { font-size: 13px; color: var(--quiet); }
.tile.room { grid-column: span 2; }
.tile .bar { margin: 8px 0 6px; }
.is-fail { color: var(--fail); } .is-warn { color: var(--warn); } .is-ok { color: var(--ok); } .is-wait { color: var(--wait); }

.note { margin-bottom: 16px; padding: 12px 18px; border-left: 4px solid var(--warn); font-size: 14px; }
.note.lost { border-left-color: var(--fail); }
.note ul { margin-top: 4px; }
.find { display: flex; flex-wrap: wrap; align-items: center; gap: 10px 16px; margin-bottom: 24px; }
.find input[type=search] { flex: 1 1 280px; min-width: 0; height: 40px; padding: 0 14px; border: 1px solid color-mix(in srgb, var(--quiet) 70%, transparent); border-radius: 10px; background: var(--card); color: inherit; font: inherit; }
.find button { height: 40px; padding: 0 18px; border: 0; border-radius: 10px; background: var(--text); color: var(--card); font: inherit; font-weight: 600; cursor: pointer; }
.find label { display: inline-flex; align-items: center; gap: 8px; }

.pill { display: inline-flex; align-items: center; gap: 5px; padding: 1px 9px 1px 7px; border-radius: 99px; font-size: 13px; font-weight: 600; white-space: nowrap; }
.pill svg, .mark svg { width: 12px; height: 12px; flex: none; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.pill.fail { color: var(--fail); background: var(--fail-back); }
.pill.warn { color: var(--warn); background: var(--warn-back); }
.pill.ok { color: var(--ok); background: var(--ok-back); }
.pill.wait { color: var(--wait); background: var(--wait-back); }
.pill.open { color: var(--quiet); background: var(--back); }

.troubles { display: grid; gap: 10px; }
.trouble { padding: 14px 18px 14px 15px; border-left: 4px solid var(--warn); }
.trouble.fail { border-left-color: var(--fail); }
.trouble h3 { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 10px; font-size: 15px; font-weight: 600; }
.trouble .says { margin-top: 4px; }
.details { margin-top: 4px; font-size: 14px; color: var(--quiet); }
.details li { padding-left: 14px; text-indent: -14px; }
.details li::before { content: "–"; display: inline-block; width: 14px; text-indent: 0; }
.advice { display: flex; gap: 8px; margin-top: 6px; font-size: 14px; }
.advice::before { content: "→"; color: var(--quiet); }
.well { padding: 18px; display: flex; gap: 10px; align-items: center; }

.table { overflow: hidden; }
table { width: 100%; border-collapse: collapse; }
th { padding: 10px 14px; text-align: left; font-size: 13px; font-weight: 600; color: var(--quiet); white-space: nowrap; }
thead th { border-bottom: 1px solid var(--line); }
td, tbody th { padding: 11px 14px; vertical-align: top; text-align: left; }
tbody th { min-width: 130px; font-size: 15px; color: inherit; white-space: normal; }
.named { min-width: 110px; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody tr:hover { background: color-mix(in srgb, var(--back) 55%, transparent); }
tr:target { background: var(--wait-back) !important; }
.number { text-align: right; white-space: nowrap; }
.name { font-weight: 600; }
.under { display: block; font-size: 13px; font-weight: 400; color: var(--quiet); }
.says-fail { color: var(--fail); font-size: 14px; } .says-warn { color: var(--warn); font-size: 14px; }
.roomy { width: 30%; min-width: 220px; }
.troubled { width: 28%; }
.none { padding: 22px 18px; color: var(--quiet); }

.bar { display: block; width: 100%; height: 12px; border-radius: 6px; overflow: hidden; }
.bar .free { fill: var(--free); } .bar .made { fill: var(--made); } .bar .pending { fill: url(#hatch); }
#hatch rect { fill: color-mix(in srgb, var(--pending) 22%, var(--card)); } #hatch path { stroke: var(--pending); stroke-width: 2; }
.sizes { margin-top: 4px; font-size: 13px; color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 13px; color: var(--quiet); }
.legend li { display: inline-flex; align-items: center; gap: 6px; }
.legend svg { width: 14px; height: 10px; border-radius: 3px; }
.pages { display: flex; gap: 18px; padding: 12px 18px; border-top: 1px solid var(--line); font-size: 14px; }

.crumb { margin-bottom: 8px; font-size: 14px; }
.title { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 14px; margin-bottom: 18px; }
h1 { font-size: 26px; font-weight: 680; letter-spacing: -.02em; line-height: 1.2; }
.two { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 3fr); gap: 20px; align-items: start; }
.two > section { margin-top: 0; }
.facts { padding: 6px 18px; }
.facts > div { display: grid; grid-template-columns: 110px minmax(0, 1fr); gap: 12px; padding: 9px 0; }
.facts > div + div { border-top: 1px solid var(--line); }
.facts dt { color: var(--quiet); font-size: 14px; }
.chain { padding: 20px 20px 4px; }
.chain > li { position: relative; padding: 0 0 18px 38px; }
.chain > li:not(:last-child)::before { content: ""; position: absolute; left: 11px; top: 22px; bottom: 0; width: 2px; background: var(--line); }
.mark { position: absolute; left: 0; top: 0; width: 24px; height: 24px; display: grid; place-items: center; border-radius: 50%; }
.mark.fail { color: var(--fail); background: var(--fail-back); } .mark.warn { color: var(--warn); background: var(--warn-back); }
.mark.ok { color: var(--ok); background: var(--ok-back); } .mark.wait { color: var(--wait); background: var(--wait-back); }
.mark.open { color: var(--quiet); border: 1px dashed var(--quiet); }
.chain h3 { font-size: 15px; font-weight: 600; }
.chain h3 .word { margin-left: 6px; font-size: 13px; font-weight: 600; }
.chain .open h3 { font-weight: 500; color: var(--quiet); }
.chain .advice { padding: 8px 12px; border-radius: 8px; background: var(--back); }
.two section > p { margin-top: 12px; }
footer { padding-bottom: 40px; font-size: 13px; color: var(--quiet); }
footer .wide { display: flex; flex-wrap: wrap; gap: 6px 18px; }

@media (max-width: 760px) {
  .wide { padding-left: 16px; padding-right: 16px; }
  .top .read { margin-left: 0; flex-basis: 100%; order: 3; }
  .live { margin-left: auto; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile { padding: 12px 14px; }
  .tile .big { font-size: 20px; }
  .tile .name { font-size: 14px; }
  .named { min-width: 0; }
  .head .legend { margin-left: 0; flex-basis: 100%; }
  .two { grid-template-columns: minmax(0, 1fr); }
  h1 { font-size: 22px; }
  table, tbody, tbody th { display: block; width: auto; min-width: 0; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 16px; padding: 14px 16px; }
  tbody tr + tr { border-top: 1px solid var(--line); }
  tbody tr + tr > * { border-top: 0; }
  tbody th { flex: 1 1 100%; padding: 0; }
  tbody td { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 8px; min-width: 0; padding: 0; font-size: 14px; }
  tbody td::before { content: attr(data-label); color: var(--quiet); font-size: 13px; }
  tbody td.bare::before { content: none; }
  tbody td.roomy, tbody td.troubled { flex: 1 1 100%; width: auto; }
  tbody td.roomy > div { flex: 1 1 100%; }
  tbody td.empty { display: none; }
  td .under { display: inline; margin-left: 4px; }
}
@media (forced-colors: active) {
  .bar, .legend svg { forced-color-adjust: none; border: 1px solid CanvasText; }
}
`
