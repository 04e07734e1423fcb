// Another latent starts at the top of its page, whichever key or button led to it; Streamlit leaves the page where the
// one before was read to. history.js, which is before this, has wrapped both functions already.
{
  const latent = (url) => new URL(url, location.href).searchParams.get("latent");
  for (const name of ["pushState", "replaceState"]) {
    const change = history[name].bind(history);
    history[name] = (state, title, url) => {
      const other = url !== undefined && url !== null && latent(url) !== latent(location.href);
      change(state, title, url);
      if (other) document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
    };
  }
}
