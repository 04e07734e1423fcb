// Predicted effects as bars: a row an area, that opens it. data: [{key, name, told, colour, sign, number, width, low, high}],
// the last three in percent of the longest. Names come from the run: they are set as text, never as HTML.
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".mneme-bars");
  host.replaceChildren(...data.map((area) => {
    const row = part("button", "row");
    row.title = area.told;
    row.onclick = () => setTriggerValue("area", area.key);
    const track = part("span", "track");
    const bar = part("span", "bar");
    Object.assign(bar.style, { width: `${area.width}%`, background: area.colour });
    track.append(bar);
    if (area.low !== null) {
      const range = part("span", "range");
      Object.assign(range.style, { left: `${area.low}%`, width: `${area.high - area.low}%` });
      track.append(range);
    }
    const number = part("span", "number");
    const sign = part("span", "sign", area.sign);
    sign.style.color = area.colour;
    number.append(sign, ` ${area.number}`);
    row.append(part("span", "name", area.name), track, number);
    return row;
  }));
}

function part(kind, name, words = "") {
  const node = document.createElement(kind);
  node.className = name;
  node.textContent = words;
  return node;
}
