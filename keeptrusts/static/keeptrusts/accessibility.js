"use strict";

/* The console without a mouse: where the focus goes, and what is called what. */

/* A page that has something to tell begins there, unless a field of it asked for the focus. */
document.addEventListener("DOMContentLoaded", () => {
    const messages = document.getElementById("messages");
    if (messages && !document.querySelector("[autofocus]")) {
        messages.focus({ preventScroll: false });
    }
});

/* The menu of a row: opened, its first entry has the focus; the arrows move in it, Escape and Tab lead back. */
document.addEventListener("click", (event) => {
    const button = event.target.closest("button[aria-haspopup=menu]");
    if (button) {
        window.setTimeout(() => {
            if (button.getAttribute("aria-expanded") === "true") {
                document.querySelector(`[data-opener="${button.id}"] [role=menuitem]`)?.focus();
            }
        }, 60);
    }
});
document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("button[aria-haspopup=menu]");
    if (button && event.key === "ArrowDown" && button.getAttribute("aria-expanded") !== "true") {
        event.preventDefault();
        button.click();
        return;
    }
    const menu = event.target.closest?.("[data-opener]");
    if (!menu) {
        return;
    }
    const entries = [...menu.querySelectorAll("[role=menuitem]")];
    const at = entries.indexOf(event.target.closest("[role=menuitem]"));
    const places = { ArrowDown: at + 1, ArrowUp: at - 1 + entries.length, Home: 0, End: entries.length - 1 };
    if (event.key in places) {
        event.preventDefault();
        entries[places[event.key] % entries.length].focus();
    } else if (event.key === " ") {
        event.preventDefault();
        event.target.click();
    } else if (event.key === "Escape" || event.key === "Tab") {
        event.preventDefault();
        const opener = document.getElementById(menu.dataset.opener);
        if (event.key === "Tab") {
            opener.click();
        }
        opener.focus();
    }
});

/* A dialog gives the focus back to what opened it: the button of a row's menu, where the entry is gone by then. */
let opener = null;
document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target?.id === "modal-content") {
        const menu = event.target.closest("[data-opener]");
        opener = menu ? document.getElementById(menu.dataset.opener) : event.target;
    }
});
window.addEventListener("dialog-closed", () => window.setTimeout(() => opener?.isConnected && opener.focus(), 60));

/* What scrolls sideways can be scrolled with the arrows, and says what it is. */
function reachScrolling() {
    for (const place of document.querySelectorAll(".kt-scroll")) {
        if (place.scrollWidth > place.clientWidth) {
            // It stays so: a window that becomes narrow again is not waited for.
            place.tabIndex = 0;
            const title = place.closest("section, .kt-card")?.querySelector("h1, h2, h3")?.textContent.trim();
            // What has a name of its own keeps it.
            if (!place.hasAttribute("aria-label")) {
                place.setAttribute("role", "group");
                place.setAttribute("aria-label", title || "Table");
            }
        }
    }
}

/* The box in which a choice of many is searched is called what the choice is called. */
function nameChoices() {
    for (const box of document.querySelectorAll(".select2-search__field:not([aria-label])")) {
        const choice = box.closest(".select2-container")?.previousElementSibling;
        const label = choice?.id && document.querySelector(`label[for="${choice.id}"]`);
        box.setAttribute("aria-label", label ? label.textContent.replace("*", "").trim() : "Search");
    }
}

/* What the theme makes clickable without being a button: the sidebar's switches, the choice of light and dark. */
function makeButtons() {
    for (const place of document.querySelectorAll("span[x-on\\:click], a[x-on\\:click]:not([href]):not([role])")) {
        place.setAttribute("role", "button");
        place.tabIndex = 0;
        const inside = place.textContent.trim();
        if (place.matches(".material-symbols-outlined") || place.querySelectorAll("*").length === 0) {
            const toggles = place.getAttribute("x-on:click").startsWith("sidebarToggle");
            place.setAttribute("aria-label", toggles ? "Show or hide the navigation" : inside === "close" ? "Clear" : inside);
        }
    }
}
document.addEventListener("keydown", (event) => {
    const place = event.target;
    if ((event.key === "Enter" || event.key === " ") && place.matches?.("span[x-on\\:click], a[x-on\\:click]:not([href])")) {
        event.preventDefault();
        place.click();
    }
});

function tidy() {
    makeButtons();
    reachScrolling();
    nameChoices();
}
window.addEventListener("load", () => window.setTimeout(tidy, 0));
window.addEventListener("resize", reachScrolling);
document.addEventListener("toggle", reachScrolling, true);
document.addEventListener("htmx:afterSettle", tidy);

/* The main part of a page is one, and the way past the navigation ends there. */
document.addEventListener("DOMContentLoaded", () => {
    const content = document.getElementById("content");
    content?.setAttribute("role", "main");
    content?.setAttribute("tabindex", "-1");
});
