// The page's own script: draws the charts from the data in the page, and moves them with the slider and the selection.
// Texts of the run reach the page through textContent alone, and labels of charts, which plotly.js reads as markup,
// through `label`.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { tree, accuracy, rounds, wins, judges, trainings } = data;
  const chosen = { slider: tree.slider.length - 1, row: -1 };
  const by = (id) => document.getElementById(id);

  // ---- texts and colours ----------------------------------------------------------------------------------------

  const label = (text) =>
    String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\n/g, " ");
  // Of a domain's path the end tells more than the beginning.
  const short = (text, most = 40) => (text.length > most ? `…${text.slice(1 - most)}` : text);
  const figure = (number) => (number === null || number === undefined ? "–" : number.toFixed(3));

  function colour(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  const series = (place) => colour(`series-${(place % 6) + 1}`);
  const translucent = (rgb) => rgb.replace("rgb(", "rgba(").replace(")", ", 0.25)");
  const lambdas = () => [
    [0, colour("good")],
    [0.5, colour("middle")],
    [1, colour("bad")],
  ];
  const shares = () => [
    [0, colour("low")],
    [1, colour("high")],
  ];

  function layout(more) {
    const axis = {
      gridcolor: colour("grid"),
      linecolor: colour("line"),
      zerolinecolor: colour("grid"),
      automargin: true,
      fixedrange: true,
    };
    const { xaxis, yaxis, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      dragmode: false,
      height: 340,
      margin: { l: 50, r: 20, t: 20, b: 85 },
      font: { color: colour("ink"), family: "system-ui, DejaVu Sans, sans-serif" },
      legend: { orientation: "h", yref: "container", yanchor: "bottom", y: 0 },
      hoverlabel: { font: { family: "system-ui, DejaVu Sans, sans-serif" } },
      xaxis: { ...axis, ...xaxis },
      yaxis: { ...axis, ...yaxis },
      ...rest,
    };
  }

  function draw(id, traces, more = {}) {
    const place = by(id);
    if (!place) return Promise.resolve();
    return Plotly.react(place, traces, layout(more), { displayModeBar: false, responsive: true });
  }

  const share = (title) => ({ range: [-0.02, 1.03], title: { text: title } });

  // ---- charts that stay as they are -----------------------------------------------------------------------------

  function drawAccuracy() {
    if (!accuracy) return;
    const parts = Object.entries(accuracy.means).filter(([, values]) => values.some((value) => value !== null));
    const lines = parts.map(([part, values], place) => ({
      name: part,
      x: accuracy.versions.map(label),
      y: values,
      mode: "lines+markers",
      line: { color: series(place), width: 3 },
    }));
    const sources = Object.entries(accuracy.sources).map(([name, means], place) => ({
      name: label(name),
      x: accuracy.versions.map(label),
      y: accuracy.versions.map(() => means.overall),
      mode: "lines",
      line: { color: series(place + 3), dash: "dash" },
    }));
    draw("chart-accuracy", [...lines, ...sources], { xaxis: { type: "category" }, yaxis: share("held-out accuracy") });
    const columns = [...accuracy.versions, ...Object.keys(accuracy.sources)];
    drawMap(
      "chart-domains",
      columns,
      accuracy.domains.map((row) => row.domain),
      accuracy.domains.map((row) => [...row.versions, ...row.sources]),
      "accuracy",
    );
  }

  function drawMap(id, columns, rows, values, what, texts) {
    const places = rows.map((_, place) => place);
    draw(
      id,
      [
        {
          type: "heatmap",
          x: columns.map((_, place) => place),
          y: places,
          z: values,
          zmin: 0,
          zmax: 1,
          colorscale: shares(),
          xgap: 1,
          ygap: 1,
          text: texts || values.map((row) => row.map(figure)),
          customdata: values.map((row, place) => row.map(() => label(rows[place]))),
          hovertemplate: "%{customdata}<br>%{text}<extra></extra>",
          colorbar: { title: { text: what }, outlinewidth: 0 },
        },
      ],
      {
        height: 90 + 22 * rows.length,
        margin: { l: 50, r: 20, t: 50, b: 20 },
        xaxis: {
          tickvals: columns.map((_, place) => place),
          ticktext: columns.map((text) => label(short(text, 20))),
          side: "top",
          showgrid: false,
        },
        yaxis: {
          tickvals: places,
          ticktext: rows.map((text) => label(short(text))),
          autorange: "reversed",
          showgrid: false,
        },
      },
    );
  }

  function drawRounds() {
    draw(
      "chart-lost",
      [
        {
          name: "lost",
          x: rounds.map((row) => row.round),
          y: rounds.map((row) => row.lost_share),
          mode: "lines+markers",
          line: { color: series(1), width: 3 },
          text: rounds.map((row) => `${row.lost} of ${row.harvests}`),
          hovertemplate: "round %{x}: %{y:.3f} (%{text})<extra></extra>",
        },
      ],
      {
        xaxis: { title: { text: "round" }, dtick: rounds.length < 15 ? 1 : undefined },
        yaxis: share("share lost"),
        showlegend: false,
        margin: { l: 50, r: 20, t: 20, b: 50 },
      },
    );
    const models = [...new Set(rounds.flatMap((row) => Object.keys(row.tokens)))];
    draw(
      "chart-tokens",
      models.map((model, place) => ({
        type: "bar",
        name: label(model),
        x: rounds.map((row) => row.round),
        y: rounds.map((row) => row.tokens[model] || 0),
        marker: { color: series(place) },
      })),
      {
        barmode: "stack",
        xaxis: { title: { text: "round" }, dtick: rounds.length < 15 ? 1 : undefined },
        yaxis: { title: { text: "tokens" } },
      },
    );
  }

  function drawWins() {
    if (!wins) return;
    drawMap(
      "chart-wins",
      wins.models,
      wins.rows.map((row) => row.path),
      wins.rows.map((row) => row.cells.map((cell) => cell.rate)),
      "win rate",
      wins.rows.map((row) =>
        row.cells.map((cell) => `${figure(cell.rate)}: ${Number(cell.wins.toPrecision(4))} of ${cell.harvests}`),
      ),
    );
  }

  function points(name, shares, xs, place) {
    const there = shares.map((found, at) => [found, xs[at]]).filter(([found]) => found);
    return {
      name: label(name),
      x: there.map(([, x]) => x),
      y: there.map(([found]) => found.share),
      mode: "markers",
      marker: { color: series(place), size: 9, symbol: place },
      showlegend: there.length > 0,
      error_y: {
        type: "data",
        symmetric: false,
        color: series(place),
        array: there.map(([found]) => found.high - found.share),
        arrayminus: there.map(([found]) => found.share - found.low),
      },
    };
  }

  function drawJudges() {
    const names = Object.keys(judges);
    if (!names.length) return;
    const measures = {
      agrees_with_outcome: "with the outcome",
      agrees_with_others: "with the others",
      agrees_between_orders: "with itself in both orders",
    };
    const apart = (place, of) => (place - (of - 1) / 2) * 0.12;
    const traces = Object.entries(measures).map(([measure, words], place) =>
      points(
        words,
        names.map((name) => judges[name][measure]),
        names.map((_, at) => at + apart(place, 3)),
        place,
      ),
    );
    draw("chart-agreement", traces, {
      showlegend: true,
      xaxis: {
        tickvals: names.map((_, at) => at),
        ticktext: names.map((name) => label(short(name, 20))),
        range: [-0.5, names.length - 0.5],
      },
      yaxis: share("agreement"),
    });
    const most = Math.max(...names.map((name) => judges[name].positions.length));
    const all = names.map((name, place) =>
      points(
        name,
        judges[name].positions,
        judges[name].positions.map((_, at) => at + 1 + apart(place, names.length)),
        place,
      ),
    );
    const longest = judges[names.find((name) => judges[name].positions.length === most)].positions;
    const chance = {
      name: "chance",
      x: longest.map((_, at) => at + 1),
      y: longest.map((found) => found && found.expected),
      mode: "lines",
      line: { color: colour("faint"), dash: "dash" },
    };
    draw("chart-positions", [...all, chance], {
      xaxis: { title: { text: "place" }, dtick: 1 },
      yaxis: share("choices"),
    });
  }

  function drawLosses() {
    const lines = {
      loss_first: "first step",
      loss_last: "last step",
      held_back_loss_base: "held back, before",
      held_back_loss: "held back, after",
    };
    const there = Object.entries(lines).filter(([name]) => trainings.some((training) => training[name] !== undefined));
    draw(
      "chart-losses",
      there.map(([name, words], place) => ({
        name: words,
        x: trainings.map((training) => label(training.version)),
        y: trainings.map((training) => training[name] ?? null),
        mode: "lines+markers",
        line: { color: series(place) },
      })),
      { xaxis: { type: "category" }, yaxis: { title: { text: "loss" }, rangemode: "tozero" } },
    );
  }

  // ---- the tree and a domain's posterior ------------------------------------------------------------------------

  const mean = (at, row) => at.alpha[row] / (at.alpha[row] + at.beta[row]);
  const between = (at, row) => `${figure(at.low[row] / 1000)} to ${figure(at.high[row] / 1000)}`;
  const cells = (at, row) => [
    figure(mean(at, row)),
    `${at.alpha[row]}, ${at.beta[row]}`,
    between(at, row),
    String(at.harvests[row]),
    String(at.rebirths[row]),
  ];

  function fill(table, rows) {
    const body = by(table).tBodies[0];
    body.replaceChildren(
      ...rows.map(([head, ...others]) => {
        const line = document.createElement("tr");
        const first = document.createElement("th");
        first.scope = "row";
        first.append(Object.assign(document.createElement("bdi"), { textContent: head }));
        line.append(first, ...others.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
        return line;
      }),
    );
  }

  function drawTree() {
    const at = tree.moments[tree.slider[chosen.slider]];
    const born = at ? at.alpha.map((_, row) => row) : [];
    const some = born.filter((row) => at.harvests[row] > 0);
    const place = by("chart-tree");
    if (some.length) {
      draw(
        "chart-tree",
        [
          {
            type: "sunburst",
            branchvalues: "total",
            sort: false,
            ids: some.map(String),
            labels: some.map((row) => label(tree.nodes[row].name)),
            parents: some.map((row) => (tree.nodes[row].parent < 0 ? "" : String(tree.nodes[row].parent))),
            values: some.map((row) => at.harvests[row]),
            customdata: some.map(
              (row) =>
                `${label(tree.nodes[row].path)}<br>lambda ${figure(mean(at, row))}, ${between(at, row)}<br>` +
                `Beta(${at.alpha[row]}, ${at.beta[row]}), ${at.harvests[row]} harvests`,
            ),
            hovertemplate: "%{customdata}<extra></extra>",
            insidetextorientation: "radial",
            marker: {
              colors: some.map((row) => mean(at, row)),
              cmin: 0,
              cmax: 1,
              colorscale: lambdas(),
              showscale: true,
              colorbar: { title: { text: "lambda" }, outlinewidth: 0 },
              line: { color: colour("paper"), width: 1 },
            },
          },
        ],
        { height: 560, margin: { l: 10, r: 10, t: 10, b: 10 }, uniformtext: { minsize: 9, mode: "hide" } },
      ).then(() => {
        if (place.dataset.listens) return;
        place.dataset.listens = "yes";
        place.on("plotly_sunburstclick", (event) => {
          const row = Number(event.points[0].id);
          if (tree.nodes[row]) choose(row);
          return false;
        });
      });
    } else {
      Plotly.purge(place);
    }
    if (!at) return;
    const total = born.reduce((sum, row) => sum + (tree.nodes[row].level === 1 ? at.harvests[row] : 0), 0);
    const then = `target ${at.version}, after ${at.sequence} events`;
    const words = `${at.label}: ${born.length} domains, ${total} harvests, ${then}`;
    by("moment-label").textContent = at.label;
    by("moment").setAttribute("aria-valuetext", at.label);
    by("tree-said").textContent = words;
    place.setAttribute(
      "aria-label",
      `Sunburst of the domains at this moment, ${words}. The same numbers are in the table below.`,
    );
    fill(
      "table-tree",
      deep()
        .filter((row) => row < born.length)
        .map((row) => [tree.nodes[row].path, ...cells(at, row)]),
    );
  }

  // Rows of the nodes with every node behind the one above it.
  function deep() {
    const under = new Map();
    tree.nodes.forEach((node, row) => {
      if (!under.has(node.parent)) under.set(node.parent, []);
      under.get(node.parent).push(row);
    });
    const walk = (row) => [row, ...(under.get(row) || []).flatMap(walk)];
    return (under.get(-1) || []).flatMap(walk);
  }

  function drawPosterior() {
    const row = chosen.row;
    if (row < 0) return;
    const there = tree.moments.filter((at) => row < at.alpha.length);
    const xs = there.map((at) => at.sequence);
    const texts = there.map((at) => `${at.label}<br>Beta(${at.alpha[row]}, ${at.beta[row]})`);
    const edge = (name, column) => ({
      name,
      x: xs,
      y: there.map((at) => at[column][row] / 1000),
      mode: "lines",
      line: { width: 0 },
      hoverinfo: "skip",
      showlegend: false,
    });
    draw(
      "chart-posterior",
      [
        edge("low", "low"),
        { ...edge("interval", "high"), fill: "tonexty", fillcolor: translucent(series(0)), showlegend: true },
        {
          name: "mean",
          x: xs,
          y: there.map((at) => mean(at, row)),
          mode: "lines+markers",
          line: { color: series(0), width: 3 },
          text: texts,
          hovertemplate: "%{text}<br>lambda %{y:.3f}<extra></extra>",
        },
      ],
      { xaxis: { title: { text: "events of the run" } }, yaxis: share("lambda") },
    );
    const last = there[there.length - 1];
    const found = `lambda ${figure(mean(last, row))}, ${between(last, row)}, after ${last.harvests[row]} harvests`;
    const words = `${tree.nodes[row].path}: ${found}`;
    by("node-said").textContent = words;
    by("chart-posterior").setAttribute(
      "aria-label",
      `Lambda over the run. At the end, ${words}. The same numbers are in the table below.`,
    );
    fill(
      "table-posterior",
      there.map((at) => [at.label, at.version, ...cells(at, row)]),
    );
  }

  // ---- what a reader moves --------------------------------------------------------------------------------------

  function choose(row) {
    chosen.row = row;
    by("node").value = String(row);
    drawPosterior();
    remember();
  }

  // In the address, so that the page comes back as it was when it loads itself again, and so that it can be passed on.
  function remember() {
    const at = chosen.slider === tree.slider.length - 1 ? "" : String(chosen.slider);
    const node = chosen.row < 0 ? "" : String(tree.nodes[chosen.row].node);
    const kept = new URLSearchParams({ at, node });
    if (by("refreshing") && !by("refreshing").checked) kept.set("still", "1");
    try {
      history.replaceState(null, "", `#?${kept}`);
    } catch {
      /* some browsers forbid it in a file */
    }
  }

  function recall() {
    const kept = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
    const at = Number.parseInt(kept.get("at"), 10);
    if (at >= 0 && at < tree.slider.length) chosen.slider = at;
    const node = Number.parseInt(kept.get("node"), 10);
    chosen.row = tree.nodes.findIndex((there) => there.node === node);
    if (chosen.row < 0 && tree.nodes.length) {
      const last = tree.moments[tree.moments.length - 1];
      chosen.row = last.harvests.reduce((best, count, row) => (count > last.harvests[best] ? row : best), 0);
    }
    if (by("refreshing") && kept.get("still")) by("refreshing").checked = false;
  }

  function drawAll() {
    drawAccuracy();
    drawRounds();
    drawTree();
    drawPosterior();
    drawWins();
    drawJudges();
    drawLosses();
  }

  function theme(name) {
    if (name) document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
    by("theme").value = name;
  }

  function kept(name, value) {
    try {
      if (value === undefined) return localStorage.getItem(name) || "";
      localStorage.setItem(name, value);
    } catch {
      /* no storage for a file here: the switch works, and is forgotten */
    }
    return "";
  }

  function start() {
    const select = by("node");
    select.append(
      ...deep().map(
        (row) => new Option(`${"\u00a0\u00a0".repeat(tree.nodes[row].level - 1)}${tree.nodes[row].name}`, String(row)),
      ),
    );
    recall();
    by("moment").value = String(chosen.slider);
    if (chosen.row >= 0) select.value = String(chosen.row);
    const was = kept("bohdi-colours");
    theme(was === "light" || was === "dark" ? was : "");
    by("theme").addEventListener("change", (event) => {
      theme(event.target.value);
      kept("bohdi-colours", event.target.value);
      drawAll();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    by("moment").addEventListener("input", (event) => {
      chosen.slider = Number(event.target.value);
      drawTree();
      remember();
    });
    select.addEventListener("change", () => choose(Number(select.value)));
    if (data.refresh_s) {
      by("refreshing").addEventListener("change", remember);
      setInterval(() => {
        if (by("refreshing").checked && !document.hidden) location.reload();
      }, 1000 * data.refresh_s);
    }
    drawAll();
    document.documentElement.dataset.drawn = "yes";
  }

  start();
})();
