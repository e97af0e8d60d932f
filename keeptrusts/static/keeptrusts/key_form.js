"use strict";

/* The form of a gateway key: the chosen group's policy narrows the choice of expiry before it is sent.
   The server checks the same; without this script its answer says why. */
document.addEventListener("DOMContentLoaded", () => {
    const group = document.getElementById("id_consumer_group");
    const expiry = document.getElementById("id_expiry");
    const date = document.getElementById("id_expires_on");
    if (!group || !expiry || !date) {
        return;
    }
    const isNewKey = document.querySelector("input[name=form_token]") !== null;
    const note = document.createElement("div");
    note.className = "kt-policy";
    note.setAttribute("aria-live", "polite");
    // Below the box that unfold draws around the select, whose arrow it would move otherwise.
    expiry.parentNode.after(note);
    let touched = document.querySelector(".errornote") !== null;

    for (const control of [expiry, date]) {
        control.addEventListener("change", (event) => {
            touched = touched || event.isTrusted;
        });
    }
    group.addEventListener("change", followPolicy);
    followPolicy();

    function followPolicy() {
        const policy = group.selectedOptions[0]?.dataset ?? {};
        const most = Number(policy.maxDays || 0);
        for (const option of expiry.options) {
            const tooLong = most > 0 && Number(option.value) > most;
            option.disabled = tooLong || (option.value === "never" && policy.expiryRequired === "yes");
        }
        date.max = most > 0 ? inDays(most) : "";
        note.replaceChildren(...explained(policy));
        const chosen = expiry.selectedOptions[0];
        if (isNewKey && (!touched || chosen?.disabled)) {
            propose(Number(policy.defaultDays || 0) || 90);
        }
    }

    function propose(days) {
        const preset = [...expiry.options].find((option) => Number(option.value) === days && !option.disabled);
        expiry.value = preset ? preset.value : "custom";
        if (!preset) {
            date.value = inDays(days);
        }
        // What shows and hides the date listens for this.
        expiry.dispatchEvent(new Event("change", { bubbles: true }));
    }

    /* The whole policy, for it decides more than the expiry. */
    function explained(policy) {
        if (!policy.rules) {
            return [];
        }
        const title = document.createElement("p");
        title.textContent = policy.name ? `What holds in ${policy.name}:` : "What holds for every key:";
        const list = document.createElement("ul");
        list.className = "kt-policy-list";
        for (const rule of policy.rules.split("\n")) {
            const item = document.createElement("li");
            item.textContent = rule;
            list.append(item);
        }
        return [title, list];
    }

    function inDays(days) {
        return new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);
    }
});
