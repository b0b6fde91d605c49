"""How the page looks: light and dark, wide and narrow. It asks for nothing from the network."""

from __future__ import annotations

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which colour-blind people tell apart;
# lighter on a dark ground, to stand out of it by 4.5 to 1 (WCAG 2.1, 1.4.3).
COLOURS = """
:root{color-scheme:light dark;--ink:#1b2330;--soft:#566172;--paper:#fff;--line:#d9dee5;
--card:#f4f6f9;--verb:#0072b2;--callback:#b84f00;--app:#b84f00;--reference:#5b6b7b;
--good:#00734f;--bad:#b84f00}
@media(prefers-color-scheme:dark){:root{--ink:#e7ebf1;--soft:#a3aebd;--paper:#12161c;--line:#2f3844;
--card:#1b212a;--verb:#56b4e9;--callback:#f0a04b;--app:#f0a04b;--reference:#9fb0c0;
--good:#3fc796;--bad:#f0a04b}}
"""
PAGE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:1rem 1.2rem 3rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:clamp(1.15rem,2.6vw,1.65rem);line-height:1.3;font-weight:500;margin:.2rem 0 .6rem;
max-width:64rem;text-wrap:pretty}
h1 b{font-weight:700}h2{font-size:1.15rem;margin:1.6rem 0 .3rem}h3{font-size:1rem;margin:0 0 .2rem}
p{max-width:46rem;margin:.4rem 0}.soft,figcaption,small{color:var(--soft)}
.badge{display:inline-block;margin:.2rem 0;padding:.15rem .7rem;border-radius:1rem;
border:1.5px solid;font-size:.92rem}.badge.yes{color:var(--good)}.badge.no{color:var(--bad)}
.kicker{font-size:.85rem;color:var(--soft);margin:0}
figure{margin:.3rem 0}figcaption{font-size:.82rem;text-align:center}
.row{display:grid;grid-template-columns:var(--names,10.5rem) 1fr 8.2rem;align-items:center;
column-gap:.7rem;font-size:.95rem}
.row svg{width:100%;height:1.9rem;overflow:visible;display:block}.row.axis svg{height:1rem}
.name{text-align:right;line-height:1.1}.value{font-variant-numeric:tabular-nums;white-space:nowrap}
.keys{font-size:.85rem;color:var(--soft)}.key{display:inline-flex;align-items:center;
margin-right:1rem;gap:.2rem}
text{fill:var(--soft);font-size:12px;text-anchor:middle}
.grid{stroke:var(--line)}.joint{stroke:var(--soft);stroke-width:2;opacity:.5}
.whisker{stroke-width:3;opacity:.55}
.verb{fill:var(--verb);stroke:var(--verb)}.callback,.app{fill:var(--callback);stroke:var(--callback)}
.reference{fill:var(--reference);stroke:var(--reference)}.time{fill:var(--verb);stroke:var(--verb)}
.key svg g,.row svg g{stroke:none}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));
gap:1.6rem 2rem}
.panel{border-top:1px solid var(--line);padding-top:.7rem;min-width:0}
.panel .row{font-size:.85rem;--names:8.4rem;grid-template-columns:var(--names) 1fr 6.6rem}
.panel .row svg{height:1.45rem}.panel .row.axis svg{height:1rem}.panel p{font-size:.92rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;
font-size:.9rem;margin:.4rem 0}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
td{white-space:nowrap}th{font-weight:600;min-width:4.5rem}th:first-child,td:first-child,td.text{text-align:left}td.text,td:first-child{white-space:normal}
td small{display:block;font-size:.78rem;white-space:nowrap}
td.less{color:var(--good)}td.more{color:var(--bad)}td.same{color:var(--soft)}
details{border-top:1px solid var(--line);padding:.6rem 0}summary{cursor:pointer;font-weight:600}
code,pre{font-size:.85rem;overflow-wrap:anywhere;white-space:pre-wrap}
@media(max-width:40rem){body{padding:.7rem .8rem 2rem}
.row,.panel .row{--names:6.6rem;grid-template-columns:var(--names) 1fr 5.9rem;font-size:.8rem;
column-gap:.5rem}.row svg{height:1.55rem}}
"""
