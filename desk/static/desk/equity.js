/* The equity curve: read once a minute, in the colours of the page. */
(() => {
  "use strict";
  const place = document.getElementById("equity");
  const readAt = document.getElementById("equity-read");
  if (!place || !window.LightweightCharts) return;

  const READ_EVERY_MS = 60_000;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const grouped = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  let chart = null;
  let series = null;

  const say = (text) => {
    let note = place.querySelector(".empty");
    if (!text) { if (note) note.remove(); return; }
    if (!note) {
      note = document.createElement("p");
      note.className = "empty";
      place.append(note);
    }
    note.textContent = text;
  };

  const paint = () => {
    if (!chart) return;
    chart.applyOptions({
      layout: { background: { color: "transparent" }, textColor: colour("--quiet") },
      grid: { vertLines: { visible: false }, horzLines: { color: colour("--line") } },
    });
    series.applyOptions({
      lineColor: colour("--chart-line"), topColor: colour("--chart-top"), bottomColor: colour("--chart-bottom"),
    });
  };

  const build = () => {
    chart = LightweightCharts.createChart(place, {
      autoSize: true,
      layout: { attributionLogo: false, fontSize: 11 },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.12, bottom: 0.08 } },
      timeScale: { borderVisible: false, timeVisible: true, secondsVisible: false },
      localization: { priceFormatter: (value) => grouped.format(value) },
      handleScroll: false,
      handleScale: false,
    });
    series = chart.addSeries(LightweightCharts.AreaSeries, { lineWidth: 2, priceLineVisible: false });
    paint();
  };

  const read = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch(place.dataset.source, { headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(String(response.status));
      const { points } = await response.json();
      if (points.length < 2) { say("The curve begins with the second reading, about two minutes after the start."); return; }
      say("");
      if (!chart) build();
      series.setData(points);
      chart.timeScale().fitContent();
      readAt.textContent = `to ${new Date(points.at(-1).time * 1000).toISOString().slice(11, 16)} UTC`;
    } catch {
      if (!chart) say("The curve could not be read; it is asked for again within a minute.");
    }
  };

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  setInterval(read, READ_EVERY_MS);
  read();
})();
