// One entry in the browser's history for each thing a person does: Streamlit alone adds three for opening a page with
// parameters (Back then loses the filter) and none for a changed filter. Back to another page loads it: Streamlit drops
// parameters whose widgets the page that is left has too, which is what the filter's are.
{
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
