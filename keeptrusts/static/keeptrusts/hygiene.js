"use strict";

/* What takes a while says so: a button with data-working shows that text from the moment its form is sent. */
document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (button && button.dataset.working) {
        button.dataset.before = button.textContent;
        button.textContent = button.dataset.working;
        button.setAttribute("aria-busy", "true");
    }
});
window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("[data-working][aria-busy]")) {
        button.textContent = button.dataset.before;
        button.removeAttribute("aria-busy");
    }
});
