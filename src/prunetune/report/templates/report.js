"use strict";
(async () => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;

  let figures, template, darkOf;

  const inflated = (id) => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  const start = async () => {
    ({ figures, template, darkOf } = JSON.parse(await inflated("figures")));
    const script = document.createElement("script");
    script.textContent = await inflated("plotly");
    document.head.append(script); // runs at once, if the page's policy knows its hash
    if (!window.Plotly) throw new Error("plotly.js did not start");
  };

  // Figures are stored in light colours; the dark one of each is looked up.
  const recoloured = (value, coloured) => {
    if (Array.isArray(value)) return value.map((item) => recoloured(item, coloured));
    if (value && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, recoloured(item, coloured || key.includes("color"))]),
      );
    }
    return coloured && typeof value === "string" && Object.hasOwn(darkOf, value) ? darkOf[value] : value;
  };

  const config = { responsive: true, displaylogo: false, displayModeBar: false, plotlyServerURL: "" };
  const zoomConfig = {
    ...config,
    displayModeBar: true,
    modeBarButtons: [["zoomIn2d", "zoomOut2d", "pan2d", "resetScale2d"]],
  };
  const drawn = new Set();
  const draw = (id) => {
    const { data, layout } = figures[id];
    const whole = { data, layout: { ...layout, template, ...(touch ? { dragmode: false } : {}) } };
    const figure = dark.matches ? recoloured(whole, false) : structuredClone(whole); // plotly writes into what it is given
    drawn.add(id);
    return Plotly.react(id, figure.data, figure.layout, layout.meta?.zoomable ? zoomConfig : config);
  };
  const shown = (id) => !document.getElementById(id).closest("details:not([open])");

  const giveUp = (error) => {
    console.warn(error);
    document.documentElement.dataset.figures = "none";
    document.getElementById("no-pictures").hidden = false;
    for (const plot of document.querySelectorAll(".plot")) plot.hidden = true;
    for (const details of document.querySelectorAll("details")) details.open = true;
  };

  try {
    await start();
    for (const id of Object.keys(figures)) {
      if (!shown(id)) continue;
      await draw(id);
      await new Promise((resume) => setTimeout(resume)); // the page stays usable while it is drawn
    }
    document.documentElement.dataset.figures = "drawn";
  } catch (error) {
    giveUp(error);
    return;
  }
  for (const details of document.querySelectorAll("details.more")) {
    details.addEventListener("toggle", () => {
      for (const plot of details.querySelectorAll(".plot")) if (details.open && !drawn.has(plot.id)) draw(plot.id);
    });
  }
  dark.addEventListener("change", () => drawn.forEach(draw));
})();
