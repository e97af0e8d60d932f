"use strict";

/* A value that is shown once: download it, and do not leave before it is stored. */
(() => {
    const shown = () => document.getElementById("secret-value");
    let stored = false;

    document.addEventListener("click", (event) => {
        const download = event.target.closest("[data-env-of]");
        if (download) {
            const source = document.getElementById(download.dataset.envOf);
            saveLine(`${download.dataset.envName}=${source.textContent.trim()}\n`);
        }
        if (event.target.closest("[data-secret-stored] a")) {
            stored = true;
        }
    });

    /* The file never leaves the browser. */
    function saveLine(line) {
        const address = URL.createObjectURL(new Blob([line], { type: "text/plain" }));
        const link = document.createElement("a");
        link.href = address;
        link.download = "keeptrusts.env";
        link.click();
        window.setTimeout(() => URL.revokeObjectURL(address), 1000);
    }

    window.addEventListener("beforeunload", (event) => {
        if (shown() && !stored) {
            event.preventDefault();
            event.returnValue = "";
        }
    });

    /* Whoever comes back finds what the value is of, and never the value: not in the browser's kept pages either. */
    window.addEventListener("pagehide", () => {
        if (shown()) {
            shown().textContent = "";
            document.getElementById("secret-curl")?.replaceChildren();
        }
    });

    /* The page is the answer to a form. From here on its address is that of what was made, so that a reload shows that
       and sends no form a second time. */
    document.addEventListener("DOMContentLoaded", () => {
        const done = document.querySelector(".kt-secret-page [data-secret-stored]");
        if (done) {
            window.history.replaceState(null, "", done.dataset.secretStored);
        }
    });

    /* A dialog says when what is chosen in it will be: data-says="name", and of its texts the one whose
       data-when is the value is shown. */
    function sayWhen(root) {
        for (const place of root.querySelectorAll("[data-says]")) {
            const control = place.closest("form")?.elements.namedItem(place.dataset.says);
            if (!control) {
                continue;
            }
            for (const said of place.querySelectorAll("[data-when]")) {
                said.hidden = said.dataset.when !== control.value;
            }
        }
    }
    /* So many minutes from now, or where the key expires before, then. */
    function countMinutes() {
        for (const place of document.querySelectorAll("[data-after-minutes]")) {
            const minutes = place.closest("form")?.elements.namedItem(place.dataset.afterMinutes)?.value;
            const latest = place.dataset.latest ? Date.parse(place.dataset.latest) : Infinity;
            const end = new Date(Math.min(Date.now() + Number(minutes) * 60_000, latest));
            place.textContent = minutes && !Number.isNaN(end.getTime())
                ? `until ${stamp(end, place.dataset.zone, JSON.parse(place.dataset.zoneNames))}`
                : "for as many minutes from now";
        }
    }
    /* As the server writes a time (audit/moments.py): in the member's zone, called as it calls it, by its minutes
       ahead of UTC. A zone that the browser does not know is told in UTC. */
    function stamp(at, timeZone, names) {
        const given = { hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };
        let parts;
        try {
            parts = new Intl.DateTimeFormat("en", { ...given, timeZone }).formatToParts(at);
        } catch {
            return `${at.toISOString().slice(0, 16).replace("T", " ")} UTC`;
        }
        const { year, month, day, hour, minute } = Object.fromEntries(parts.map((part) => [part.type, part.value]));
        const ahead = Date.UTC(year, month - 1, day, hour, minute) / 60_000 - Math.floor(at.getTime() / 60_000);
        return `${year}-${month}-${day} ${hour}:${minute} ${names[ahead] ?? timeZone}`;
    }
    document.addEventListener("input", countMinutes);
    document.addEventListener("htmx:afterSettle", countMinutes);

    /* The cut-over asks for itself anew. A session that has ended is answered by the sign-in page; and a console that
       does not answer for a moment is asked again, without a word. */
    document.addEventListener("htmx:beforeSwap", (event) => {
        const { target, xhr, requestConfig } = event.detail;
        if (target?.id === "cutover" && new URL(xhr.responseURL).pathname !== new URL(requestConfig.path, window.location.href).pathname) {
            event.detail.shouldSwap = false;
            window.location.reload();
        }
    });
    for (const name of ["htmx:sendError", "htmx:responseError"]) {
        document.addEventListener(name, (event) => event.target.id === "cutover" && event.stopPropagation(), true);
    }

    document.addEventListener("change", () => sayWhen(document));
    document.addEventListener("htmx:afterSettle", () => sayWhen(document));
    document.addEventListener("DOMContentLoaded", () => sayWhen(document));
})();
