"use strict";
(function () {
  var root = document.documentElement;
  var problems = 0;
  window.addEventListener("error", function () { problems += 1; });
  document.addEventListener("securitypolicyviolation", function () { problems += 1; });

  var data = JSON.parse(document.getElementById("data").textContent);
  var map = document.getElementById("map");
  var cursor = document.getElementById("cursor");
  var detail = document.getElementById("detail");
  var size = BigInt(data.size);
  var cell = BigInt(data.cell);
  var chosen = -1;

  function human(bytes) {
    var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    var value = Number(bytes);
    var unit = 0;
    while (value >= 1000 && unit < 6) { value /= 1024; unit += 1; }
    return Number(value.toPrecision(3)) + " " + units[unit];
  }

  function words(index) {
    var start = cell * BigInt(index);
    var end = start + cell < size ? start + cell : size;
    var rest = end - start;
    var parts = data.cells[index].map(function (share) {
      rest -= BigInt(share[2]);
      return "[" + share[0] + "] " + data.names[share[0]] + " " + human(share[2]) + (share[1] ? " of zeros" : "");
    });
    if (rest > 0n) { parts.push("nobody " + human(rest)); }
    return "0x" + start.toString(16) + " to 0x" + end.toString(16) + ": " + parts.join(", ");
  }

  function choose(index) {
    if (index < 0 || index >= data.cells.length) { return; }
    chosen = index;
    cursor.setAttribute("x", data.margin + (index % data.columns) * data.side);
    cursor.setAttribute("y", Math.floor(index / data.columns) * data.step);
    cursor.setAttribute("visibility", "visible");
    detail.textContent = words(index);
  }

  function at(event) {
    var box = map.getBoundingClientRect();
    var scale = map.viewBox.baseVal.width / box.width;
    var column = Math.floor(((event.clientX - box.left) * scale - data.margin) / data.side);
    var row = Math.floor((event.clientY - box.top) * scale / data.step);
    return column < 0 || column >= data.columns ? -1 : row * data.columns + column;
  }

  map.addEventListener("pointermove", function (event) { choose(at(event)); });
  map.addEventListener("pointerdown", function (event) { choose(at(event)); });
  map.addEventListener("keydown", function (event) {
    var steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.columns, ArrowDown: data.columns };
    var last = data.cells.length - 1;
    if (event.key in steps) {
      choose(chosen < 0 ? 0 : chosen + steps[event.key]);
    } else if (event.key === "Home" || event.key === "End") {
      choose(event.key === "Home" ? 0 : last);
    } else {
      return;
    }
    event.preventDefault();
  });

  /* The page looks at itself: whoever made it can ask whether all went well. */
  window.addEventListener("load", function () {
    var all = document.querySelectorAll("details");
    var folded = [];
    all.forEach(function (part) { folded.push(part.open); part.open = true; });
    data.cells.forEach(function (shares, index) { words(index); });
    choose(data.cells.length - 1);
    choose(0);
    var wide = root.scrollWidth > root.clientWidth;
    document.querySelectorAll(".card, .tiles > div, output").forEach(function (box) {
      wide = wide || box.scrollWidth > box.clientWidth + 1;
    });
    all.forEach(function (part, index) { part.open = folded[index]; });
    root.dataset.selfCheck = problems > 0 ? "errors: " + problems : wide ? "overflow" : "good";
  });
})();
