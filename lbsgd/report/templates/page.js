// Reads values off a chart by pointer, touch or arrow keys. What it reads are the rows of the chart's table, so the page is
// complete without it. The slider that carries it is invisible and lies over the plot: a control that every reader knows.
"use strict";
for (const figure of document.querySelectorAll("figure[data-reading]")) {
  const rows = [...figure.querySelectorAll("tbody tr")];
  const names = [...figure.querySelectorAll("thead th")].map((cell) => cell.textContent);
  const plot = figure.querySelector(".plot");
  const drawing = plot.querySelector("svg");
  const slider = document.createElement("input");
  const output = document.createElement("output");
  Object.assign(slider, { type: "range", className: "reader", min: 0, max: rows.length - 1, value: 0 });
  slider.setAttribute("aria-label", "Read values: " + figure.querySelector("figcaption").textContent);
  output.setAttribute("aria-hidden", "true");
  plot.append(slider, output);

  const draw = (name, attributes) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    drawing.append(shape);
  };
  const clear = () => {
    for (const shape of drawing.querySelectorAll(".crosshair, .point")) shape.remove();
    output.textContent = "";
  };
  const show = () => {
    const row = rows[slider.value];
    const x = row.dataset.x + "%";
    clear();
    draw("line", { class: "crosshair", x1: x, x2: x, y1: 0, y2: "100%" });
    for (const y of row.dataset.y.trim().split(" ")) draw("circle", { class: "point", cx: x, cy: y + "%", r: 5 });
    output.textContent = [...row.cells].map((cell, index) => names[index] + " " + cell.textContent).join(" · ");
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  const nearest = (event) => {
    const box = plot.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    const y = (100 * (event.clientY - box.top)) / box.height;
    const distance = (row) => 1000 * Math.abs(row.dataset.x - x) + Math.abs(parseFloat(row.dataset.y) - y);
    slider.value = rows.reduce((best, row, index) => (distance(row) < distance(rows[best]) ? index : best), 0);
    show();
  };
  slider.addEventListener("input", show);
  slider.addEventListener("focus", show);
  slider.addEventListener("blur", clear);
  slider.addEventListener("pointermove", nearest);
  slider.addEventListener("pointerleave", clear);
  slider.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    nearest(event);
    slider.focus({ preventScroll: true });
  });
}
