(() => {
  "use strict";
  const { charts, colors, metrics, scaling } = JSON.parse(document.getElementById("data").textContent);
  const AXES = { tokens: "tokens", bytes: "bytes of text", flops: "FLOP", seconds: "seconds of training" };
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // The points of a member's curve for which the axis was counted.
  function points(member, metric, axis) {
    const curve = member.curves[metric];
    if (!curve) return { x: [], y: [] };
    const known = curve.value.map((_, i) => i).filter((i) => curve[axis][i] !== null && curve.value[i] !== null);
    return { x: known.map((i) => curve[axis][i]), y: known.map((i) => curve.value[i]) };
  }

  function traces(chart, metric, axis) {
    return chart.members.map((member) => ({
      ...points(member, metric, axis),
      name: member.name,
      type: "scatter",
      mode: "lines+markers",
      line: { color: color(`c${colors[member.name]}`), width: 2.5 },
      marker: { size: 6 },
      hovertemplate: `%{y:${metric === "accuracy" ? ".1%" : ".4f"}}<extra>${escape(member.name)}</extra>`,
    })).filter((trace) => trace.x.length);
  }

  // Plotly reads a little HTML in labels.
  function escape(text) {
    return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  // Optima that differ (other data, other tokenizer) are drawn each; equal ones once.
  function optima(chart, metric) {
    const values = chart.members.map((m) => m.optimum[metric]).filter((v) => v !== undefined);
    return [...new Set(values.map((v) => v.toFixed(3)))].map(Number);
  }

  function layout(chart, metric, axis, drawn) {
    const soft = color("soft"), line = color("line");
    const best = drawn.length ? optima(chart, metric) : [];
    const scale = {
      gridcolor: line, linecolor: color("strong"), tickcolor: color("strong"), zeroline: false, automargin: true,
      title: { font: { color: soft, size: 13 }, standoff: 10 }, tickfont: { color: soft, size: 12 },
    };
    const empty = { text: "not measured", x: .5, y: .5, xref: "paper", yref: "paper", showarrow: false };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: color("ink"), size: 13 },
      margin: { l: 8, r: 12, t: 34, b: 8 },
      xaxis: { ...scale, showgrid: false, showline: true, ticks: "outside", rangemode: "tozero", nticks: 6,
               tickformat: "~s", hoverformat: ".3s", title: { ...scale.title, text: AXES[axis] } },
      yaxis: { ...scale, nticks: 6, title: { ...scale.title, text: chart.axes[metric] },
               ...(metric === "accuracy" && { tickformat: ".0%" }) },
      showlegend: true,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { color: color("ink") } },
      hovermode: "x unified",
      hoverlabel: { bgcolor: color("panel"), bordercolor: line, font: { color: color("ink") } },
      shapes: best.map((y) => ({
        type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y,
        line: { color: soft, width: 1.5, dash: "dash" },
      })),
      annotations: drawn.length ? best.map((y) => ({
        xref: "paper", x: 0, xanchor: "left", xshift: 4, y, yanchor: "bottom", showarrow: false,
        text: `optimum ${y.toFixed(3)}`, font: { color: soft, size: 12 },
      })) : [{ ...empty, font: { color: soft } }],
    };
  }

  // A chart without the chosen metric shows its first one, and says so.
  // Points of an architecture share a colour with the first of them; its law is a line through them.
  function scale(law, i) {
    const families = [...new Set(law.points.map((point) => point.architecture))];
    const drawn = families.flatMap((family) => {
      const points = law.points.filter((point) => point.architecture === family);
      const shade = color(`c${colors[points[0].name]}`), fit = law.fits[family];
      const x = points.map((point) => point.size);
      const marks = {
        x, y: points.map((point) => point.value), text: points.map((point) => escape(point.name)), name: family,
        mode: "markers", marker: { size: 9, color: shade }, hovertemplate: "%{text}: %{y:.4f}<extra></extra>",
      };
      const line = fit && {
        x, y: x.map((size) => fit.factor * size ** fit.exponent), name: family, showlegend: false, mode: "lines",
        line: { color: shade, width: 1.5, dash: "dot" }, hoverinfo: "skip",
      };
      return line ? [marks, line] : [marks];
    });
    const chart = { axes: { size: law.label }, members: [] };
    const shape = layout(chart, "size", "size", drawn);
    shape.xaxis = { ...shape.xaxis, type: "log", rangemode: "normal", title: { ...shape.xaxis.title, text: "parameters" } };
    shape.yaxis = { ...shape.yaxis, type: "log" };
    shape.hovermode = "closest";
    Plotly.react(`scaling${i}`, drawn, shape, { displayModeBar: false, responsive: true });
  }

  function draw() {
    scaling.forEach(scale);
    if (!charts.length) return;
    const wanted = chosen("metric"), axis = chosen("axis");
    charts.forEach((chart, i) => {
      const metric = wanted in chart.axes ? wanted : chart.first;
      const drawn = traces(chart, metric, axis);
      Plotly.react(`chart${i}`, drawn, layout(chart, metric, axis, drawn), { displayModeBar: false, responsive: true });
      document.getElementById(`instead${i}`).textContent =
        metric === wanted ? "" : `No ${metrics[wanted]} here; shown: ${metrics[metric]}.`;
    });
  }

  document.querySelectorAll(".controls input").forEach((input) => input.addEventListener("change", draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);
  draw();
})();
