// Fetch the code of the other pages' plots when the first page is drawn: mnemeLater names its files.
addEventListener("load", () => setTimeout(() => {
  for (const name of window.mnemeLater)
    document.head.append(Object.assign(document.createElement("link"), {
      rel: "modulepreload", crossOrigin: "", fetchPriority: "low", href: `./static/js/${name}`,
    }));
}, 4000));
