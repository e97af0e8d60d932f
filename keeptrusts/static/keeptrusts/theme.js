// The theme that was chosen in the console holds on the pages that stand alone, too.
(() => {
    let theme = null;
    try {
        theme = JSON.parse(localStorage.getItem("adminTheme"));
    } catch {
        // Nothing chosen, or no storage: the system decides.
    }
    if (theme === "light" || theme === "dark") {
        document.documentElement.dataset.theme = theme;
    }
})();
