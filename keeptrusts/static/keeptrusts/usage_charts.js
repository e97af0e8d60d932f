// The text of charts has the contrast of the theme, also when it is switched. Before unfold draws them (its app.js).
"use strict";

(() => {
    const html = document.documentElement;
    const colour = () => (html.classList.contains("dark") ? "#cbd5e1" : "#475569");
    Chart.defaults.color = colour();
    new MutationObserver(() => {
        if (Chart.defaults.color === colour()) return;
        Chart.defaults.color = colour();
        for (const chart of Object.values(Chart.instances)) chart.update();
    }).observe(html, { attributes: true, attributeFilter: ["class"] });
})();
