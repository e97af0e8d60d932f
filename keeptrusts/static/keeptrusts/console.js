"use strict";

/* Copy buttons. navigator.clipboard exists only on https and localhost; on plain http the old way still works. */
document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) {
        return;
    }
    event.preventDefault();
    const source = document.getElementById(button.dataset.copy);
    const copied = source && (await copyText(source));
    const label = button.querySelector("[data-copy-text]");
    const before = label.dataset.before || label.textContent;
    label.dataset.before = before;
    label.textContent = copied ? "Copied" : "Press Ctrl+C";
    button.classList.toggle("kt-copied", Boolean(copied));
    if (!copied && source) {
        selectAll(source);
    }
    window.setTimeout(() => {
        label.textContent = before;
        button.classList.remove("kt-copied");
    }, 3000);
});

async function copyText(source) {
    const text = source.textContent.trim();
    if (navigator.clipboard && window.isSecureContext) {
        try {
            await navigator.clipboard.writeText(text);
            return true;
        } catch {
            // Refused by the browser or its user: the old way may still be allowed.
        }
    }
    // In the element's own place, because a dialog keeps the focus to itself.
    const field = document.createElement("textarea");
    field.value = text;
    field.setAttribute("readonly", "");
    field.className = "kt-offscreen";
    source.parentNode.append(field);
    field.select();
    let copied = false;
    try {
        copied = document.execCommand("copy");
    } finally {
        field.remove();
    }
    return copied;
}

function selectAll(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    element.focus();
}

/* Dialogs. A session that has ended answers with the sign-in page, an error with a page of its own: neither is a
   dialog, so the one is opened where it belongs and the other is told in the dialog's place. */
document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, requestConfig } = event.detail;
    const target = event.detail.target;
    if (!target || !(target.id === "modal-content" || target.closest("#modal-content"))) {
        return;
    }
    const answeredBy = new URL(xhr.responseURL || window.location.href);
    const asked = new URL(requestConfig.path, window.location.href);
    if (answeredBy.pathname !== asked.pathname) {
        event.detail.shouldSwap = false;
        window.location.reload();
    }
});

/* The dialog begins where something is to be done: at what is wrong, else at its first field, secret or button. */
document.addEventListener("htmx:afterSettle", () => window.setTimeout(() => {
    const dialog = document.getElementById("dialog");
    if (!dialog || dialog.contains(document.activeElement)) {
        return;
    }
    const places = ["[aria-invalid=true]", "#secret-value", "input:not([type=hidden]), select, textarea", "button[type=button]"];
    const place = places.map((selector) => dialog.querySelector(selector)).find(Boolean);
    place?.focus();
}, 50));

document.addEventListener("htmx:responseError", (event) => showProblem(problemOf(event.detail.xhr.status)));
document.addEventListener("htmx:sendError", () => showProblem("The console does not answer. Nothing was changed as far as is known here."));

function problemOf(status) {
    switch (status) {
        case 403:
            return "Your role does not allow this, or your session has ended. Reload the page and try again.";
        case 404:
            return "This does not exist any more, or you may not see it.";
        default:
            return `The console could not do this (${status}). Reload the page to see what is true now.`;
    }
}

function showProblem(text) {
    const content = document.getElementById("modal-content");
    if (!content) {
        return;
    }
    const problem = document.createElement("p");
    problem.id = "dialog-title";
    problem.className = "kt-problem";
    problem.setAttribute("role", "alert");
    problem.textContent = text;
    content.replaceChildren(problem);
    window.Alpine.$data(document.body).openModal = true;
}

/* A form that was sent once is not sent again by a second click on the same button. */
document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.hasAttribute("hx-post") || form.id === "changelist-form") {
        return;
    }
    if (form.dataset.sent) {
        event.preventDefault();
        return;
    }
    if ((form.method || "").toLowerCase() === "post") {
        form.dataset.sent = "yes";
    }
});
window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
        delete form.dataset.sent;
    }
});

/* A field that is asked for only when another one has a certain value: data-shown-when="name=value". */
function showOrHide(root) {
    for (const field of root.querySelectorAll("[data-shown-when]")) {
        const [name, value] = field.dataset.shownWhen.split("=");
        const control = field.form?.elements.namedItem(name);
        // As a dialog lays a field out, or as a form of the console does.
        const place = field.closest(".form-field, .form-row");
        if (control && place) {
            place.hidden = control.value !== value;
        }
    }
}
document.addEventListener("change", (event) => event.target.form && showOrHide(event.target.form));
document.addEventListener("htmx:afterSettle", () => showOrHide(document));
document.addEventListener("DOMContentLoaded", () => showOrHide(document));

/* A whole key value typed into a search box would go into addresses and logs: only its hint is sent. */
document.addEventListener("submit", (event) => {
    for (const field of event.target.querySelectorAll("input[name=q]")) {
        field.value = field.value.replace(/(kt_(?:gk|gt|ak)_[a-z0-9]{4})[a-z0-9]{28}/g, "$1");
    }
}, true);

/* Links that are called buttons take the space bar, as buttons do. */
document.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target.matches("a[role=button], div[role=button]")) {
        event.preventDefault();
        event.target.click();
    }
});

/* An icon is drawn from a word, such as "vpn_key", which nobody needs to hear where there is a text beside it. */
function silenceIcons() {
    for (const icon of document.querySelectorAll("span.material-symbols-outlined:not([aria-hidden])")) {
        const control = icon.closest("a, button, [role=button], h1, h2, h3, p");
        if (control && control !== icon && control.textContent.trim() !== icon.textContent.trim()) {
            icon.setAttribute("aria-hidden", "true");
        }
    }
}
/* The box to search a list is named by what stands in it, until something is typed. */
function nameSearch() {
    const search = document.getElementById("searchbar");
    search?.setAttribute("aria-label", `Search: ${search.placeholder}`);
}
document.addEventListener("DOMContentLoaded", nameSearch);
document.addEventListener("DOMContentLoaded", silenceIcons);
document.addEventListener("htmx:afterSettle", silenceIcons);

/* Requests are whole: no half of one on the axis of a chart. */
window.Chart?.defaults.set("scales.linear", { ticks: { precision: 0 } });
