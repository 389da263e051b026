// Draws the rows of `apps.rulers` and links their tokens. Text is set as text, never as markup.
const CAP = 0.6, FLOOR = 0.05;

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function link(text, address) {
  const made = element("a", text);
  made.href = "unit?unit=" + encodeURIComponent(address);
  made.target = "_self";
  return made;
}

function swatch(basis) {
  const made = element("span", undefined, "swatch " + basis.shape);
  made.style.setProperty("--c", basis.colour);
  return made;
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".rulers");
  const top = element("div", undefined, "top");
  top.setAttribute("aria-live", "polite");
  const strips = data.rows.map((row, number) => {
    const strip = element("div", undefined, "strip");
    strip.dir = "auto";
    data.pieces.forEach((piece, at) => {
      const token = element("span", piece);
      const share = row.share[at];
      if (share >= FLOOR) {
        token.className = "fires";
        token.style.setProperty("--a", (CAP * Math.min(share, 1)).toFixed(2));
      }
      token.dataset.at = at;
      token.title = Math.round(100 * share) + " % of its maximum";
      if (number === 0) {
        token.tabIndex = at === 0 ? 0 : -1;
        token.setAttribute("aria-label", `token ${at + 1}: ${piece}, ${token.title}`);
      }
      strip.append(token);
    });
    return strip;
  });

  function choose(at) {
    strips.forEach((strip) =>
      [...strip.children].forEach((token, place) => token.classList.toggle("on", place === at)));
    top.replaceChildren(element("b", `token ${at + 1}: ${data.pieces[at]}`));
    data.top[at].forEach(([name, units]) => {
      const basis = data.bases[name], line = element("div");
      line.append(swatch(basis), element("span", name + ": ", "quiet"));
      if (!units.length) line.append("none fires");
      units.forEach(([unit, called, share], place) => {
        if (place) line.append(" · ");
        line.append(link(`${basis.noun} ${called}`, `${basis.stem}/${unit}`),
          ` ${Math.round(100 * share)} %`);
      });
      top.append(line);
    });
  }

  function walk(event) {
    const first = strips[0].children, at = Number(event.target.dataset.at);
    const step = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: first.length - 1 };
    const next = first[step[event.key]];
    if (!next) return;
    event.preventDefault();
    first[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  const near = (event) => {
    const at = event.target.dataset && event.target.dataset.at;
    if (at !== undefined) choose(Number(at));
  };
  root.replaceChildren(...data.rows.map((row, number) => {
    const line = element("div", undefined, "row");
    const name = link(row.name, row.address);
    name.prepend(swatch(data.bases[row.basis]));
    line.append(name, strips[number]);
    return line;
  }), top);
  strips.forEach((strip) => strip.addEventListener("mouseover", near));
  if (strips.length) {
    strips[0].addEventListener("focusin", near);
    strips[0].addEventListener("keydown", walk);
  }
  top.append(element("span",
    "Point at a token, or reach the first row with Tab and walk it with ← and →.", "quiet"));
}
