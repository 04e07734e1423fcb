// Why Streamlit's own means do not do: a changed widget that is bound to the address replaces the browser's entry, so
// that Back leaves the page and every filter on it; opening a latent adds four entries, of which two have lost the
// filter; and on Back to another page the server drops the parameters whose widgets the page that is left has too.
// Here each thing a person does is one entry, and Back to another page loads that page.
if (!window.mnemeHistory) {
  window.mnemeHistory = true;
  let touched = false;
  let page = location.pathname;
  const push = history.pushState.bind(history);
  const replace = history.replaceState.bind(history);
  const write = (state, title, url) => {
    const other = url !== undefined && url !== null && new URL(url, location.href).href !== location.href;
    if (touched && other) { touched = false; push(state, title, url); } else replace(state, title, url);
    page = location.pathname;
  };
  history.pushState = write;
  history.replaceState = write;
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => { touched = true; }, true);
  addEventListener("popstate", (event) => {
    touched = false;
    if (location.pathname === page) return;
    event.stopImmediatePropagation();
    location.reload();
  }, true);
}
