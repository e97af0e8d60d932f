"use strict";

/* Unfold lays the navigation beside the content from a width of 1280 pixels on, and opens it from 1281 on: at exactly
   1280, the width of many a laptop, it would be out of sight. Its own `theme` is loaded after this, and before Alpine. */
document.addEventListener("alpine:init", () => {
    const BESIDE = 1280;
    const unfolds = window.theme;
    const isWide = () => window.innerWidth >= BESIDE;
    const isOpen = () => isWide() && localStorage.getItem("sidebarOpen") !== "0";

    window.theme = (...given) => {
        const state = unfolds(...given);
        state.sidebarOpen = isOpen;
        state.sidebarToggle = function toggle() {
            this.sidebarOpen = !this.sidebarOpen;
            if (isWide()) {
                localStorage.setItem("sidebarOpen", this.sidebarOpen ? "1" : "0");
            }
        };
        state.themeBindings["x-resize.window"] = function resized() {
            this.sidebarOpen = isOpen();
        };
        return state;
    };
});
