"use strict";

/* An invitation link: its secret stands after "#", goes into the form, and out of the address. */
document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("join-link");
    const secret = window.location.hash.slice(1);
    if (!form || !secret) {
        return;
    }
    history.replaceState(null, "", window.location.pathname);
    form.elements.secret.value = secret;
    form.requestSubmit();
});

/* What takes long says that it is at work, and is not sent twice. */
document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset?.busy) {
        return;
    }
    const button = form.querySelector("button[type=submit]");
    const words = form.querySelector("[data-busy-words]");
    button?.setAttribute("disabled", "");
    form.setAttribute("aria-busy", "true");
    if (words) {
        words.textContent = form.dataset.busy;
    }
});
/* Back to a page that the browser has kept: nothing is at work there. */
window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
        document.querySelectorAll("form[aria-busy]").forEach(() => window.location.reload());
    }
});
