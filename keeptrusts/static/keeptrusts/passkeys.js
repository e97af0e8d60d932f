"use strict";

/* Passkeys (WebAuthn): the browser's authenticator answers the server's challenge, and a form carries the answer.

   A form says data-passkey="create" or "get", and data-options, where the challenge is fetched. Where the browser
   has no passkeys (plain http on a name that is not localhost, an old browser) the form stays hidden. */
(() => {
    const TROUBLES = {
        NotAllowedError: "That was cancelled, or took too long. Try again.",
        InvalidStateError: "This device has a passkey for you here already.",
        SecurityError: "The browser allows no passkeys at this address.",
    };

    function say(form, words) {
        const place = form.querySelector("[data-passkey-trouble]");
        place.textContent = words;
        place.hidden = words === "";
    }

    async function ask(form) {
        const answer = await fetch(form.dataset.options, { headers: { Accept: "application/json" } });
        if (!answer.ok || answer.redirected) {
            throw new Error("no options");
        }
        const options = await answer.json();
        return form.dataset.passkey === "create"
            ? window.webauthnJSON.create(options)
            : window.webauthnJSON.get(options);
    }

    async function start(form, button) {
        if (!form.reportValidity()) {
            return;
        }
        say(form, "");
        button.disabled = true;
        try {
            form.elements.answer.value = JSON.stringify(await ask(form));
            form.submit();
        } catch (error) {
            say(form, TROUBLES[error.name] ?? "That did not work. Load the page again, then try once more.");
            button.disabled = false;
        }
    }

    document.addEventListener("DOMContentLoaded", () => {
        const possible = window.isSecureContext && window.PublicKeyCredential && window.webauthnJSON;
        for (const form of document.querySelectorAll("form[data-passkey]")) {
            if (!possible) {
                continue;
            }
            form.hidden = false;
            const button = form.querySelector("[data-passkey-start]");
            button.addEventListener("click", () => start(form, button));
            form.addEventListener("submit", (event) => {
                event.preventDefault();
                start(form, button);
            });
        }
        if (!possible) {
            document.querySelectorAll("[data-passkey-none]").forEach((words) => {
                words.hidden = false;
            });
        }
    });
})();
